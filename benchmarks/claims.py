"""The claims of the paper, each by the statistic that results/README.md names, on the rows of a study of our own.

python -m benchmarks.claims STUDY [--small STUDY ...]

`--small`: shorter or smaller studies; how the order of their cells agrees with that of STUDY, which is what one wants
to know before spending more. Prints Markdown, computed from rows alone.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports import paper
from lilliput.reports.material import open_material
from lilliput.reports.verdict import Standing, parted, standings, with_untrained
from lilliput.reports.words import share, signed, title
from lilliput.studies.results import CELL
from lilliput.studies.statistics import Mean, chance_of, counted_at, difference, holm, interval, select, spearman

CONTRASTIVE = ("moco_v2", "simclr", "byol")
PREDICTIVE = ("rotnet", "split_brain")
TECHNIQUES = (*PREDICTIVE, *CONTRASTIVE)
BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "resnet18", "shufflenet_v2", "squeezenet")
REPEATED = ("shufflenet_v2", "resnet18")  # with several seeds
SEEDS = 3
AGAIN = 5_000  # bootstrap samples
Cell = tuple[str, str]


class Answer(NamedTuple):
    """What a statistic came to: whether the claim holds, None where the cells that it needs are not there."""

    holds: bool | None
    words: str


@dataclass(frozen=True)
class Evidence:
    """The rows of one judge of a study: of its baselines, and of the cells of the paper's grid that are finished."""

    rows: pd.DataFrame
    test_images: int

    @cached_property
    def cells(self) -> dict[Cell, Mean]:
        """Of each cell the accuracy that counts: at the checkpoint chosen on held-out training images."""
        return {(cell.technique, cell.backbone): cell.mean for cell, _ in self.beside_untrained}

    @cached_property
    def beside_untrained(self) -> list[tuple[Standing, Standing]]:
        """Each cell beside the better of what it began as and of its network's untrained baselines."""
        starts = standings(self.rows, self.test_images, start=True)
        return with_untrained(*parted(standings(self.rows, self.test_images)), starts)

    def at(self, epoch: int, metric: str = "accuracy", probe: str = "linear") -> dict[Cell, float]:
        """Of each cell a figure of the checkpoint after that epoch, mean over its seeds."""
        rows = self.rows[(self.rows.probe == probe) & (self.rows.metric == metric) & (self.rows.epoch == epoch)]
        return rows[rows.technique.isin(TECHNIQUES)].groupby(CELL[:2]).value.mean().to_dict()

    def seeds(self, backbone: str) -> int:
        """Of how many seeds every technique on this network was judged."""
        counts = self.rows[self.rows.backbone == backbone].groupby("technique").seed.nunique()
        return int(min(counts.get(technique, 0) for technique in TECHNIQUES))

    @cached_property
    def epochs(self) -> list[int]:
        """The judged checkpoints, the start too."""
        return sorted(self.rows[self.rows.technique.isin(TECHNIQUES)].epoch.unique())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--small", nargs="+", default=[])
    options = parser.parse_args()
    evidence = evidence_of(options.study)
    print("\n".join(table_of_spread(evidence)))
    print("\n" + "\n".join(table_of_claims(evidence)))
    print("\n" + "\n".join(table_of_leaders(evidence)))
    if options.small:
        print("\n" + "\n".join(table_of_orders(evidence, {name: evidence_of(name) for name in options.small})))


def evidence_of(folder: str | Path) -> Evidence:
    material = open_material(folder)
    rows = material.rows
    if judge := material.settings.get("judge"):
        rows = rows[rows.judge == judge]
    return Evidence(finished(rows, material.whole("epochs")), material.whole("test_images"))


def finished(rows: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Of the baselines and of the grid's cells that are judged after their last epoch (0: the furthest of all)."""
    linear = rows[(rows.probe == "linear") & rows.technique.isin(TECHNIQUES) & rows.backbone.isin(BACKBONES)]
    reached = linear.groupby(CELL).epoch.max()
    whole = reached[reached == (epochs or reached.max())].index
    return rows[rows.technique.isin(BASELINES) | pd.MultiIndex.from_frame(rows[CELL]).isin(whole)]


def learns(evidence: Evidence) -> Answer:
    """Accuracy less that of the cell's own untrained network, by the interval of the difference."""
    gaps = {cell.name: difference(cell.mean, start.mean) for cell, start in evidence.beside_untrained}
    if any(gap.half is None for gap in gaps.values()):
        return Answer(None, "nothing tells the uncertainty")
    rest = [name for name, gap in gaps.items() if gap.value <= (gap.half or 0)]
    told = f"{len(gaps) - len(rest)} of {len(gaps)} cells above" + (f"; not: {', '.join(rest)}" if rest else "")
    return Answer(_whole(evidence, not rest), told)


def contrastive_ahead(evidence: Evidence) -> Answer:
    gaps = {
        backbone: _mean_of(evidence, CONTRASTIVE, backbone) - _mean_of(evidence, PREDICTIVE, backbone)
        for backbone in BACKBONES
        if all((technique, backbone) in evidence.cells for technique in TECHNIQUES)
    }
    against = sum(gap < 0 for gap in gaps.values())
    told = ", ".join(f"{backbone} {signed(gap, 3)}" for backbone, gap in gaps.items())
    return Answer(_settled(evidence, against < 2, refuted=against >= 2), told)


def two_lead_on_resnet18(evidence: Evidence) -> Answer:
    """Whether another is ahead of BYOL or MoCo v2 beyond the interval of the difference."""
    column = dict(_column(evidence, "resnet18"))
    told = ", ".join(f"{title(technique)} {share(mean.value)}" for technique, mean in column.items())
    pairs = [(one, two) for one in ("byol", "moco_v2") for two in ("rotnet", "split_brain", "simclr")]
    if evidence.seeds("resnet18") < SEEDS:
        return Answer(None, f"{told}; fewer than {SEEDS} seeds" if told else "cells are missing")
    gaps = {(one, two): difference(column[two], column[one]) for one, two in pairs}
    ahead = [
        f"{title(two)} of {title(one)} by {share(gap.value)}"
        for (one, two), gap in gaps.items()
        if gap.half is not None and gap.value > gap.half
    ]
    return Answer(not ahead, told + (f"; ahead beyond the interval: {', '.join(ahead)}" if ahead else ""))


def rotnet_last(evidence: Evidence) -> Answer:
    ranks = {}
    for backbone in BACKBONES:
        column = {technique: evidence.cells.get((technique, backbone)) for technique in TECHNIQUES}
        if all(column.values()):
            better = sum(mean.value > column["rotnet"].value for mean in column.values())  # type: ignore[union-attr]
            ranks[backbone] = better + 1
    not_last = sum(rank < len(TECHNIQUES) for rank in ranks.values())
    told = ", ".join(f"{backbone} {rank} of {len(TECHNIQUES)}" for backbone, rank in ranks.items())
    return Answer(_settled(evidence, not_last < 2, refuted=not_last >= 2), told)


def shufflenet_overtakes(evidence: Evidence) -> Answer:
    """Below EfficientNet-lite0 and SqueezeNet at the start and above both in the end, by how many techniques."""
    first, last = evidence.at(0), evidence.at(evidence.epochs[-1]) if evidence.epochs else {}
    others, fits, known = ("efficientnet_lite0", "squeezenet"), [], []
    for technique in TECHNIQUES:
        cells = [(technique, backbone) for backbone in ("shufflenet_v2", *others)]
        if all(cell in first and cell in last for cell in cells):
            known.append(technique)
            (own, *theirs), (own_last, *theirs_last) = ([at[cell] for cell in cells] for at in (first, last))
            if own < min(theirs) and own_last > max(theirs_last):
                fits.append(title(technique))
    against = len(known) - len(fits)
    told = f"so by {len(fits)} of {len(known)}" + (f": {', '.join(fits)}" if fits else "")
    return Answer(True if len(fits) >= 3 else False if against >= 3 else None, told)


def predictive_peak_early(evidence: Evidence) -> Answer:
    selected = select(evidence.rows).dropna(subset="chosen_epoch")
    own = selected[selected.technique.isin(PREDICTIVE)]
    by_cell = own.assign(late=own.chosen_epoch == own.last_epoch).groupby(CELL[:2]).late.mean()
    late = int((by_cell > 0.5).sum())
    return Answer(None if len(by_cell) < 10 else late <= 5, f"the best is the last in {late} of {len(by_cell)} cells")


def longer_is_level(evidence: Evidence) -> Answer:
    """Accuracy at the last checkpoint less that at the first, mean over cells and its t-interval."""
    checkpoints = [epoch for epoch in evidence.epochs if epoch > 0]
    if len(checkpoints) < 2:
        return Answer(None, "fewer than two checkpoints")
    first, last = evidence.at(checkpoints[0]), evidence.at(checkpoints[-1])
    gaps = [last[cell] - first[cell] for cell in sorted(first.keys() & last.keys())]
    mean, half = interval(gaps)
    span = f"epoch {checkpoints[-1]} less epoch {checkpoints[0]}"
    told = f"{span}: {signed(mean, 3)} ± {share(half or 0)} over {len(gaps)} cells"
    return Answer(_whole(evidence, half is not None and abs(mean) <= half), told)


def inner_stage_is_better(evidence: Evidence) -> Answer:
    """Test accuracy of the stage that held-out images choose less that of the last stage."""
    epoch = evidence.epochs[-1] if evidence.epochs else 0
    best, last = (evidence.at(epoch, f"accuracy_{which}_stage", "layers") for which in ("best", "last"))
    cells = [cell for cell in sorted(best) if cell[0] in PREDICTIVE]
    if len(cells) < 2:
        return Answer(None, "not probed by stage")
    mean, half = interval([best[cell] - last[cell] for cell in cells])
    told = f"{signed(mean, 3)} ± {share(half or 0)} over {len(cells)} cells"
    return Answer(half is not None and mean > half if len(cells) == 10 else None, told)


def order_is_the_papers(evidence: Evidence) -> Answer:
    theirs = {cell: paper.TABLE_1[title(cell[0]), cell[1]] for cell in evidence.cells}
    rho, low, high = order({cell: mean.value for cell, mean in evidence.cells.items()}, theirs)
    told = f"rho {signed(rho)} ({signed(low)} to {signed(high)}) over {len(theirs)} cells"
    return Answer(_whole(evidence, low > 0), told)


CLAIMS: dict[str, Callable[[Evidence], Answer]] = {
    "every cell learns": learns,
    "contrastive techniques are ahead": contrastive_ahead,
    "BYOL and MoCo v2 lead on ResNet-18": two_lead_on_resnet18,
    "RotNet is last everywhere": rotnet_last,
    "ShuffleNetV2 starts slow and overtakes": shufflenet_overtakes,
    "RotNet and Split-Brain peak early": predictive_peak_early,
    "more pretraining neither harms nor helps": longer_is_level,
    "inner stages beat the last for RotNet and Split-Brain": inner_stage_is_better,
    "the order of the cells is the paper's": order_is_the_papers,
}
OF_ORDER = {  # of which none is made where seeds differ more than techniques
    "contrastive techniques are ahead",
    "BYOL and MoCo v2 lead on ResNet-18",
    "RotNet is last everywhere",
    "the order of the cells is the paper's",
}


def table_of_spread(evidence: Evidence) -> Iterator[str]:
    """Of each network with seeds enough, the standard deviation between techniques and that between seeds."""
    yield "| network | between techniques | between seeds |"
    yield "| --- | ---: | ---: |"
    for backbone in REPEATED:
        if spread := spread_of(evidence, backbone):
            yield f"| {backbone} | {share(spread[0])} | {share(spread[1])} |"
    if not ordered(evidence):
        yield "\nSeeds differ more than techniques: no order of techniques is claimed."


def spread_of(evidence: Evidence, backbone: str) -> tuple[float, float] | None:
    """Standard deviations of the techniques' means, and of the seeds of one technique (pooled); None with too few."""
    if evidence.seeds(backbone) < SEEDS:
        return None
    selected = counted_at(select(evidence.rows[evidence.rows.technique.isin(TECHNIQUES)]))
    by_technique = selected[selected.backbone == backbone].groupby("technique").value
    return float(by_technique.mean().std()), float(np.sqrt(by_technique.var().mean()))


def ordered(evidence: Evidence) -> bool:
    """Whether an order of techniques may be claimed: not where seeds differ more than techniques on both networks."""
    spreads = [spread_of(evidence, backbone) for backbone in REPEATED]
    return not all(spread and spread[1] > spread[0] for spread in spreads)


def table_of_claims(evidence: Evidence) -> Iterator[str]:
    yield "| claim | what we found | |"
    yield "| --- | --- | --- |"
    for claim, asked in CLAIMS.items():
        answer = asked(evidence)
        open_all = claim in OF_ORDER and not ordered(evidence)
        verdict = {True: "upheld", False: "refuted", None: "open"}[None if open_all else answer.holds]
        yield f"| {claim} | {answer.words} | {verdict} |"


def table_of_leaders(evidence: Evidence) -> Iterator[str]:
    """Of each network the leader; called the best where its lead on the second excludes zero, by Holm over all
    comparisons with the leaders of the networks that have seeds enough."""
    columns = {backbone: _column(evidence, backbone) for backbone in BACKBONES}
    repeated = [backbone for backbone in REPEATED if evidence.seeds(backbone) >= SEEDS]
    gaps = [difference(columns[name][0][1], other) for name in repeated for _, other in columns[name][1:]]
    sure = holm([chance_of(gap) for gap in gaps])
    first_of = {name: (len(TECHNIQUES) - 1) * place for place, name in enumerate(repeated)}
    yield "| network | first | second | lead | best beyond the interval |"
    yield "| --- | --- | --- | ---: | --- |"
    for backbone, column in columns.items():
        if len(column) > 1:
            lead = difference(column[0][1], column[1][1])
            texts = [f"{title(name)} {share(mean.value)}" for name, mean in column[:2]]
            best = ordered(evidence) and backbone in repeated and sure[first_of[backbone]]
            said = ("yes" if best else "no") if backbone in repeated else f"not asked: fewer than {SEEDS} seeds"
            yield f"| {backbone} | {' | '.join(texts)} | {share(lead.value)} ± {share(lead.half or 0)} | {said} |"


def table_of_orders(evidence: Evidence, small: dict[str, Evidence]) -> Iterator[str]:
    """How well each smaller study tells the order of the cells of the large one."""
    yield "| smaller study | cells | rho with the large one |"
    yield "| --- | ---: | ---: |"
    large = {cell: mean.value for cell, mean in evidence.cells.items()}
    for epoch in evidence.epochs[1:-1]:
        yield _order_row(f"its own epoch {epoch}", large, evidence.at(epoch))
    for name, other in small.items():
        yield _order_row(Path(name).name, large, {cell: mean.value for cell, mean in other.cells.items()})


def _order_row(name: str, large: dict[Cell, float], small: dict[Cell, float]) -> str:
    rho, low, high = order(large, small)
    return f"| {name} | {len(large.keys() & small.keys())} | {signed(rho)} ({signed(low)} to {signed(high)}) |"


def order(one: dict[Cell, float], two: dict[Cell, float]) -> tuple[float, float, float]:
    """Spearman's rho of the cells that both have, and its 95 % interval by bootstrap over cells."""
    common = sorted(one.keys() & two.keys())
    sides = [pd.Series([side[cell] for cell in common]) for side in (one, two)]
    rng, rhos = np.random.default_rng(0), []
    for _ in range(AGAIN if len(common) > 2 else 0):
        drawn = rng.integers(len(common), size=len(common))
        rhos.append(spearman(*(side.iloc[drawn].reset_index(drop=True) for side in sides)))
    told = np.array(rhos)[~np.isnan(rhos)]  # NaN: a side of one value alone
    low, high = np.quantile(told, [0.025, 0.975]) if len(told) else (-1.0, 1.0)
    return spearman(*sides), float(low), float(high)


def _column(evidence: Evidence, backbone: str) -> list[tuple[str, Mean]]:
    found = [(technique, mean) for (technique, own), mean in evidence.cells.items() if own == backbone]
    return sorted(found, key=lambda pair: -pair[1].value)


def _mean_of(evidence: Evidence, techniques: tuple[str, ...], backbone: str) -> float:
    return float(np.mean([evidence.cells[technique, backbone].value for technique in techniques]))


def _whole(evidence: Evidence, answer: bool) -> bool | None:
    """The answer, where the grid is whole."""
    return answer if len(evidence.cells) == len(TECHNIQUES) * len(BACKBONES) else None


def _settled(evidence: Evidence, answer: bool, *, refuted: bool) -> bool | None:
    """The answer, where the grid is whole or what is there refutes it already."""
    return False if refuted else _whole(evidence, answer)


if __name__ == "__main__":
    main()
