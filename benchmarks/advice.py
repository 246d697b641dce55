"""What `lilliput advise` would have said of finished studies, and how wrong: by labels and by scores without any.

python -m benchmarks.advice [--results results/] [--draws 25] [--write]

Every grid of results/ whose cells were judged before their end is searched again: as many of its cells as a share of
the whole grid's seconds pays for are drawn by lot and halved by what was read at the saved checkpoints. Regret is what
the pick's accuracy lacks to the best cell's, both at the end of their training. How curves end and which cells were
best elsewhere is learned without the grid's own data set. `--write` keeps what all grids teach in
lilliput/advice/learned.json, for `lilliput advise`.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lilliput.advice import curves
from lilliput.advice.halving import FACTOR, Rung, halve
from lilliput.advice.learned import FILE
from lilliput.advice.scores import ELSEWHERE, FREE, LABELS, standing
from lilliput.studies.statistics import interval, spearman

BUDGETS = (0.05, 0.1, 0.25, 0.5)  # of the seconds of the whole grid
LOT, HELD_OUT_LOSS = "by lot", "held-out loss"
SCORES = (LABELS, *FREE, HELD_OUT_LOSS, ELSEWHERE, LOT)
LEAST = 4  # cells of a grid
FOLDED = {"stl10": 5000, "cifar10": 10000}  # training images, all of which are judged by folds
CROSSED, MET = 1 / 3, 6  # a pair is known to cross that did so in this share of so many meetings


class Finished(NamedTuple):
    """A grid of which all is known."""

    name: str
    data: str  # on which images: grids of the same are not independent
    images: int  # that are held out, or read by folds
    rows: pd.DataFrame  # cell, technique, backbone, share, seconds (of the whole training), labels, end and scores

    @property
    def shares(self) -> list[float]:
        return sorted(self.rows.share.unique())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", default="results")
    parser.add_argument("--draws", type=int, default=25, help="of the cells that a budget pays for")
    parser.add_argument("--write", action="store_true", help="keep what is learned for lilliput advise")
    options = parser.parse_args()
    grids = list(finished(Path(options.results)))
    replayed = with_intervals(pd.DataFrame(row for grid in grids for row in replays(grid, grids, options.draws)))
    print(table(grids, replayed))
    if options.write:
        FILE.write_text(json.dumps(learned(grids, replayed), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def finished(results: Path) -> Iterator[Finished]:
    """The grids of results/ that were judged before their end."""
    rows = pd.read_csv(results / "photographs-3seeds" / "scores.csv")
    rows["loss"] = rows.loss / rows.loss_of_guessing
    named = {"held_out_accuracy": "labels", "total_seconds": "spent"}
    rows = rows.rename(columns=named).assign(share=rows.epoch / rows.epochs)
    for seed, own in rows.groupby("seed"):
        yield _finished(f"photographs, seed {seed}", "photographs", _held_out(results / "photographs-3seeds"), own)
    rows = pd.read_csv(results / "stl10-40px-10epochs" / "results.csv", low_memory=False)
    rows = rows[(rows.probe == "linear") & (rows.epoch > 0) & ~rows.technique.isin(["supervised"])]
    values = rows.pivot_table(index=["technique", "backbone", "epoch", "seconds"], columns="metric", values="value")
    values = values[["accuracy", "held_out_accuracy"]].reset_index()
    values = values.rename(columns={"held_out_accuracy": "labels", "seconds": "spent"})
    values["share"] = values.epoch / values.epoch.max()
    yield _finished("STL-10, 40 px", "stl10", _held_out(results / "stl10-40px-10epochs"), values)
    yield from _trials(results / "learning" / "trials.jsonl")


def _held_out(study: Path) -> int:
    return json.loads((study / "study.json").read_text(encoding="utf-8"))["train_images"] // 10


def _trials(path: Path) -> Iterator[Finished]:
    """Of benchmarks.learning: technique x backbone x recipe, for the same seconds each, judged by folds."""
    rows = pd.DataFrame(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    rows = rows[rows.linear.notna()].rename(columns={"rank": "effective_rank", "linear": "labels"})
    rows["recipe"] = rows.settings.map(lambda settings: json.dumps(settings, sort_keys=True))
    for (data, size, seconds), own in rows.groupby(["data", "size", "seconds"]):
        own = own.drop_duplicates(["technique", "backbone", "recipe", "seed", "share"])
        whole = own.groupby("key").share.transform("nunique") == own.share.nunique()
        own = own[whole]
        own = own.assign(spent=own.share * seconds, accuracy=own.labels)
        if own.key.nunique() >= LEAST and own.share.nunique() > 1:
            yield _finished(f"{data}, {size} px, {seconds:g} s", data, FOLDED[data], own.drop(columns="loss"))


def _finished(name: str, data: str, images: int, rows: pd.DataFrame) -> Finished:
    rows = rows.assign(recipe=rows.get("recipe", ""))
    rows["cell"] = rows.technique + " " + rows.backbone + rows.recipe.map(lambda recipe: f" {recipe}" if recipe else "")
    last = rows[rows.share == 1].set_index("cell")
    rows = rows[rows.cell.isin(last.index)]
    rows = rows.assign(end=rows.cell.map(last.accuracy), seconds=rows.cell.map(last.spent))
    return Finished(name, data, images, rows.reset_index(drop=True))


def replays(grid: Finished, grids: Sequence[Finished], draws: int) -> Iterator[dict[str, Any]]:
    """A row for each score, budget and draw."""
    others = [other for other in grids if other.data != grid.data]
    readings = {(row.cell, row.share): row for row in with_scores(grid, others).itertuples(index=False)}
    cells, best = sorted(set(grid.rows.cell)), grid.rows.end.max()
    seconds = dict(zip(grid.rows.cell, grid.rows.seconds, strict=True))
    for budget in BUDGETS:
        for draw in range(draws):
            order = list(np.random.default_rng(draw).permutation(cells))
            drawn = affordable(order, seconds, grid.shares, budget * sum(seconds.values()))
            for score in SCORES:
                if score != LOT and math.isnan(getattr(readings[cells[0], grid.shares[0]], score, math.nan)):
                    continue
                found = {"grid": grid.name, "data": grid.data, "score": score, "budget": budget, "draw": draw}
                if drawn is None:
                    continue
                pick, share = searched(drawn, readings, score, grid.shares, seconds, budget * sum(seconds.values()))
                end = readings[pick, 1.0].end
                read = {"reading": readings[pick, share].labels, "share": share, "images": grid.images, "end": end}
                yield {**found, **read, "regret": best - end}


def with_scores(grid: Finished, others: Sequence[Finished]) -> pd.DataFrame:
    """The grid's rows with every score a column, the greater the better."""
    rows = grid.rows.copy()
    for score, sign in FREE.items():
        rows[score] = sign * rows[score] if score in rows else math.nan
    known = effects(others)
    rows[ELSEWHERE] = [
        standing(technique, backbone, known) for technique, backbone in zip(rows.technique, rows.backbone, strict=True)
    ]
    return rows


def effects(grids: Sequence[Finished]) -> dict[str, dict[str, float]]:
    """Of every technique and backbone, how many standard deviations of a grid it was above the grid's mean."""
    ends = [grid.rows[grid.rows.share == 1] for grid in grids]
    scaled = pd.concat([own.assign(above=(own.end - own.end.mean()) / own.end.std()) for own in ends])
    return {kind: scaled.groupby(kind).above.mean().to_dict() for kind in ("technique", "backbone")}


def ladder(count: int, shares: Sequence[float]) -> list[tuple[float, int]]:
    """(share, cells): what halving so many comes to, on the checkpoints that there are."""
    steps = []
    for share in shares:
        steps.append((share, count))
        if count == 1:
            break
        count = math.ceil(count / FACTOR)
    return steps


def affordable(order: list[str], seconds: dict[str, float], shares: list[float], budget: float) -> list[str] | None:
    """The first cells of the order, as many as halving pays for; None where not even one gets to a checkpoint."""
    fits = [count for count in range(1, len(order) + 1) if price(order[:count], seconds, shares) <= budget]
    if fits:
        return order[: max(fits)]
    first = next((cell for cell in order if seconds[cell] * shares[0] <= budget), None)
    return [first] if first else None


def price(cells: list[str], seconds: dict[str, float], shares: list[float]) -> float:
    """About: those that go on cost as much as the mean."""
    mean, total, before = sum(seconds[cell] for cell in cells) / len(cells), 0.0, 0.0
    for share, count in ladder(len(cells), shares):
        total, before = total + count * mean * (share - before), share
    return total


def searched(
    cells: list[str], readings: dict, score: str, shares: list[float], seconds: dict[str, float], budget: float
) -> tuple[str, float]:
    """The pick of these cells, and at which share of its training it was read last."""
    if score == LOT:
        return cells[0], ladder(len(cells), shares)[-1][0]
    rungs = [Rung(FACTOR**number, count) for number, (_, count) in enumerate(ladder(len(cells), shares))]
    share_at = dict(zip([rung.epoch for rung in rungs], shares, strict=False))
    reads = lambda cell, epoch: getattr(readings[cell, share_at[epoch]], score)  # noqa: E731
    return halve(cells, rungs, lambda names, epoch: None, reads), share_at[rungs[-1].epoch]


def with_intervals(replayed: pd.DataFrame) -> pd.DataFrame:
    """And how many times as wide the interval that the picks of the other data sets make for each pick must be to hold
    its end: at most 1 where it does."""
    beside = {}
    for data, own in replayed.groupby("data"):
        known = curves.quantiles(residuals(replayed[replayed.data != data]))
        for row in own.itertuples():
            beside[row.Index] = curves.beside(row.reading, row.share, row.images, row.end, known)
    replayed = replayed.assign(beside=pd.Series(beside))
    return replayed.assign(held=replayed.beside <= 1)


def widening(replayed: pd.DataFrame) -> float:
    """By how much intervals must be widened to hold nine in ten of the picks by labels, every data set counting alike;
    1 where they do."""
    own = replayed[replayed.score == LABELS]
    weights = 1 / own.data.map(own.data.value_counts())
    order = own.beside.sort_values()
    reached = weights[order.index].cumsum() / weights.sum()
    return max(1.0, float(order[reached >= 1 - curves.MISSED].iloc[0]))


def residuals(replayed: pd.DataFrame) -> list[list[float]]:
    """Of picks by labels, by data set: of all cells, those that chance favoured are picked. A reading that is the end
    itself has none."""
    known = replayed[(replayed.score == LABELS) & ((replayed.share < 1) | (replayed.reading != replayed.end))]
    picks = ((own.reading, own.share, own.images, own.end) for _, own in known.groupby("data"))
    return [curves.residuals(map(curves.Seen, *columns)) for columns in picks]


def doublings(grids: Sequence[Finished]) -> list[float]:
    """What the second half of a training, or of a part of it, added to the held-out accuracy; sorted."""
    gains = []
    for grid in grids:
        for _, own in grid.rows.groupby("cell"):
            read = dict(zip(own.share, own.labels, strict=True))
            gains += [read[2 * share] - value for share, value in read.items() if 2 * share in read]
    return sorted(gains)


def crossings(grids: Sequence[Finished]) -> list[dict[str, Any]]:
    """Techniques and backbones of which the one behind at the first checkpoint was ahead at the end, too often."""
    met: dict[tuple[str, str, str], list[bool]] = {}
    for grid in grids:
        first = grid.rows[grid.rows.share == grid.shares[0]]
        for kind, same in (("technique", "backbone"), ("backbone", "technique")):
            for _, own in first.groupby([same, "recipe"]):
                for one, two in combinations(own.sort_values(kind).itertuples(index=False), 2):
                    key = kind, getattr(one, kind), getattr(two, kind)
                    met.setdefault(key, []).append((one.labels - two.labels) * (one.end - two.end) < 0)
    return [
        {"kind": kind, "one": one, "two": two, "crossed": sum(turned), "met": len(turned)}
        for (kind, one, two), turned in sorted(met.items())
        if len(turned) >= MET and sum(turned) >= CROSSED * len(turned)
    ]


def verdicts(grids: Sequence[Finished], replayed: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Of every score without labels: by how much less it regrets than the lot, with a 95 % interval over data sets."""
    found = {}
    for score in (*FREE, HELD_OUT_LOSS, ELSEWHERE):
        gains = gained(replayed, score)
        mean, half = interval(gains) if len(gains) else (math.nan, None)
        better = half is not None and mean - half > 0
        found[score] = {"data_sets": len(gains), "gained": None if math.isnan(mean) else round(mean, 4)}
        found[score] |= {"half": None if half is None else round(half, 4), "better_than_chance": better}
    return found


def gained(replayed: pd.DataFrame, score: str) -> list[float]:
    """For each data set, the regret of the lot less that of the score, over the same draws."""
    key = ["data", "grid", "budget", "draw"]
    own, lot = (replayed[replayed.score == name].set_index(key).regret for name in (score, LOT))
    return list((lot - own).dropna().groupby(level="data").mean())


def learned(grids: Sequence[Finished], replayed: pd.DataFrame) -> dict[str, Any]:
    """What `lilliput advise` goes by."""
    rounded = lambda some: {name: round(v, 5) if isinstance(v, float) else v for name, v in some.items()}  # noqa: E731
    scores = verdicts(grids, replayed)
    trusted = [name for name, verdict in scores.items() if verdict["better_than_chance"]]
    return {
        "ends": rounded(curves.widened(curves.quantiles(residuals(replayed)), widening(replayed))),
        "doubling": rounded(curves.quantiles([doublings(grids)])),
        "scores": scores,
        "replay": {score: _replay(own, rounded) for score, own in replayed.groupby("score")},
        "default_score": max(trusted, key=lambda name: scores[name]["gained"], default=None),
        "effects": {kind: rounded(values) for kind, values in effects(grids).items()},
        "crossings": crossings(grids),
        "grids": [grid.name for grid in grids],
    }


def _replay(own: pd.DataFrame, rounded: Any) -> dict[str, Any]:
    """Of one score: mean regret by budget, grids counting alike, and how often the interval held the pick's end."""
    regret = own.groupby(["budget", "grid"]).regret.mean().groupby("budget").mean()
    return {
        "regret": rounded({str(budget): float(value) for budget, value in regret.items()}),
        "holds": round(float(own.held.mean()), 3),
        "grids": int(own.grid.nunique()),
    }


def table(grids: Sequence[Finished], replayed: pd.DataFrame) -> str:
    """In markdown: regret and coverage by score and budget, then what scores are worth, then the grids."""
    head = " | ".join(f"{budget:.0%}" for budget in BUDGETS)
    lines = [f"| chosen by | {head} | interval holds | grids | less regret than the lot |", "| --- |" + " ---: |" * 7]
    worth = verdicts(grids, replayed)
    for score in SCORES:
        own = replayed[replayed.score == score]
        if own.empty:
            lines.append(f"| {score} |" + " no rows |" * 7)
            continue
        by_grid = own.groupby(["budget", "grid"]).regret.mean().groupby("budget").mean()
        regrets = " | ".join(f"{by_grid[budget]:.3f}" if budget in by_grid else "-" for budget in BUDGETS)
        lines.append(f"| {score} | {regrets} | {own.held.mean():.0%} | {own.grid.nunique()} | {_worth(worth, score)} |")
    wider = f"{widening(replayed):.2f} times as wide"
    lines += ["", f"To hold nine in ten picks by labels, all data sets alike, intervals must be {wider}."]
    lines += ["", "| grid | cells | read at | best cell | mean cell | correlation of an early reading with the end |"]
    lines += ["| --- | ---: | --- | ---: | ---: | ---: |"]
    for grid in grids:
        first, ends = grid.rows[grid.rows.share == grid.shares[0]], grid.rows[grid.rows.share == 1].end
        early = spearman(first.labels, first.end)
        read = ", ".join(f"{share:.1%}" for share in grid.shares)
        lines.append(f"| {grid.name} | {len(ends)} | {read} | {ends.max():.3f} | {ends.mean():.3f} | {early:.2f} |")
    return "\n".join(lines)


def _worth(worth: dict[str, dict[str, Any]], score: str) -> str:
    if score not in worth:
        return ""
    found = worth[score]
    half = "" if found["half"] is None else f" ± {found['half']:.3f}"
    sure = "" if found["better_than_chance"] else ", not better than chance"
    return f"{found['gained']:+.3f}{half} ({found['data_sets']} data sets){sure}"


if __name__ == "__main__":
    main()
