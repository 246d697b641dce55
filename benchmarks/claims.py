"""The claims of the paper, each by the statistic that results/README.md names, on the rows of a study of our own.

python -m benchmarks.claims STUDY [--small STUDY ...]

`--small`: shorter or smaller studies; how the order of their cells agrees with that of STUDY, which is what one wants
to know before spending more. Prints Markdown, computed from rows alone.
"""

import argparse
import itertools
import math
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
GRID = (TECHNIQUES, BACKBONES)
REPEATED = ("shufflenet_v2", "resnet18")  # with several seeds
SEEDS = 3
AGAIN = 5_000  # bootstrap samples
Cell = tuple[str, str]
Seeds = dict[int, float]  # a cell's figure by seed


class Answer(NamedTuple):
    """What a statistic came to: whether it bears the claim out, None where what it needs is not there."""

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

    @cached_property
    def by_seed(self) -> dict[Cell, Seeds]:
        """As `cells`, by seed."""
        return _by_seed(counted_at(select(self.rows[self.rows.technique.isin(TECHNIQUES)])))

    def at(self, epoch: int, metric: str = "accuracy", probe: str = "linear") -> dict[Cell, float]:
        """Of each cell a figure of the checkpoint after that epoch, mean over its seeds."""
        return _means(self.by_seed_at(epoch, metric, probe))

    def by_seed_at(self, epoch: int, metric: str = "accuracy", probe: str = "linear") -> dict[Cell, Seeds]:
        rows = self.rows[(self.rows.probe == probe) & (self.rows.metric == metric) & (self.rows.epoch == epoch)]
        return _by_seed(rows[rows.technique.isin(TECHNIQUES)].dropna(subset="value"))

    def seeds(self, backbone: str) -> int:
        """Of how many seeds every technique on this network was judged."""
        counts = self.rows[self.rows.backbone == backbone].groupby("technique").seed.nunique()
        return int(min(counts.get(technique, 0) for technique in TECHNIQUES))

    @property
    def whole(self) -> bool:
        """Whether all is there that the protocol asks for; before that nothing is judged."""
        seeds = all(self.seeds(backbone) >= SEEDS for backbone in REPEATED)
        return seeds and len(self.cells) == len(TECHNIQUES) * len(BACKBONES)

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
    return Answer(not rest, told)


def contrastive_ahead(evidence: Evidence) -> Answer:
    gaps = {
        backbone: _mean_of(evidence, CONTRASTIVE, backbone) - _mean_of(evidence, PREDICTIVE, backbone)
        for backbone in _complete(evidence)
    }
    told = ", ".join(f"{backbone} {signed(gap, 3)}" for backbone, gap in gaps.items())
    return Answer(sum(gap < 0 for gap in gaps.values()) < 2, told)


def two_lead_on_resnet18(evidence: Evidence) -> Answer:
    """Whether another is ahead of BYOL or MoCo v2 beyond the interval of the difference."""
    column = dict(_column(evidence, "resnet18"))
    told = ", ".join(f"{title(technique)} {share(mean.value)}" for technique, mean in column.items())
    if "resnet18" not in _complete(evidence):
        return Answer(None, told or "cells are missing")
    gaps = {
        (one, two): difference(column[two], column[one])
        for one in ("byol", "moco_v2")
        for two in ("rotnet", "split_brain", "simclr")
    }
    ahead = [
        f"{title(two)} of {title(one)} by {share(gap.value)}"
        for (one, two), gap in gaps.items()
        if gap.half is not None and gap.value > gap.half
    ]
    return Answer(not ahead, told + (f"; ahead beyond the interval: {', '.join(ahead)}" if ahead else ""))


def rotnet_last(evidence: Evidence) -> Answer:
    """On how many networks something is behind it; one that is level with it is not."""
    behind = {
        backbone: sum(mean.value < evidence.cells["rotnet", backbone].value for _, mean in _column(evidence, backbone))
        for backbone in _complete(evidence)
    }
    told = ", ".join(f"{backbone} {len(TECHNIQUES) - worse} of {len(TECHNIQUES)}" for backbone, worse in behind.items())
    return Answer(sum(worse > 0 for worse in behind.values()) < 2, told)


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
    told = f"so by {len(fits)} of {len(known)}" + (f": {', '.join(fits)}" if fits else "")
    return Answer(len(known) - len(fits) < 3, told)


def predictive_peak_early(evidence: Evidence) -> Answer:
    selected = select(evidence.rows).dropna(subset="chosen_epoch")
    own = selected[selected.technique.isin(PREDICTIVE)]
    by_cell = own.assign(late=own.chosen_epoch == own.last_epoch).groupby(CELL[:2]).late.mean()
    late = int((by_cell > 0.5).sum())
    return Answer(late <= len(by_cell) / 2, f"the best is the last in {late} of {len(by_cell)} cells")


def longer_is_level(evidence: Evidence) -> Answer:
    """Accuracy at the last checkpoint less that at the first, mean over cells and its t-interval."""
    checkpoints = [epoch for epoch in evidence.epochs if epoch > 0]
    if len(checkpoints) < 2:
        return Answer(None, "fewer than two checkpoints")
    first, last = evidence.at(checkpoints[0]), evidence.at(checkpoints[-1])
    gaps = [last[cell] - first[cell] for cell in sorted(first.keys() & last.keys())]
    span = f"epoch {checkpoints[-1]} less epoch {checkpoints[0]}"
    return _of_gaps(gaps, span, len(evidence.cells), lambda mean, half: abs(mean) <= half)


def inner_stage_is_better(evidence: Evidence) -> Answer:
    """Test accuracy of the stage that held-out images choose less that of the last stage, after the last epoch."""
    epoch = evidence.epochs[-1] if evidence.epochs else 0
    best, last = (evidence.at(epoch, f"accuracy_{which}_stage", "layers") for which in ("best", "last"))
    gaps = [best[cell] - last[cell] for cell in sorted(best) if cell[0] in PREDICTIVE]
    wanted = sum(technique in PREDICTIVE for technique, _ in evidence.cells)
    return _of_gaps(gaps, "best stage less the last", wanted, lambda mean, half: mean > half)


def _of_gaps(gaps: list[float], what: str, wanted: int, holds: Callable[[float, float], bool]) -> Answer:
    """By the mean of the gaps of so many cells and half of its 95 % t-interval."""
    mean, half = interval(gaps) if gaps else (math.nan, None)
    if half is None:
        return Answer(None, "fewer than two cells")
    told = f"{what}: {signed(mean, 3)} ± {share(half)} over {len(gaps)} cells"
    return Answer(holds(mean, half) if len(gaps) == wanted else None, told)


def order_is_the_papers(evidence: Evidence) -> Answer:
    """By the bootstrap, and by chance: cells share techniques and networks, which no bootstrap over cells heeds."""
    theirs = {cell: {0: paper.TABLE_1[title(cell[0]), cell[1]]} for cell in evidence.cells}
    rho, low, high = order(evidence.by_seed, theirs)
    chance = by_chance(_means(evidence.by_seed), _means(theirs))
    told = f"rho {signed(rho)} ({signed(low)} to {signed(high)}) over {len(theirs)} cells"
    told += "" if math.isnan(chance) else f"; with names dealt anew as high in {chance:.1%} of cases"
    return Answer(low > 0 and chance <= 0.025, told)


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
NOT_SHOWN = {  # where the protocol names what would refute it, and nothing that would show it
    "BYOL and MoCo v2 lead on ResNet-18",
    "more pretraining neither harms nor helps",
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
    if ordered(evidence) is False:
        yield "\nSeeds differ more than techniques: no order of techniques is claimed."


def spread_of(evidence: Evidence, backbone: str) -> tuple[float, float] | None:
    """Standard deviations of the techniques' means, and of the seeds of one technique (pooled); None with too few."""
    if evidence.seeds(backbone) < SEEDS:
        return None
    selected = counted_at(select(evidence.rows[evidence.rows.technique.isin(TECHNIQUES)]))
    by_technique = selected[selected.backbone == backbone].groupby("technique").value
    return float(by_technique.mean().std()), float(np.sqrt(by_technique.var().mean()))


def ordered(evidence: Evidence) -> bool | None:
    """Whether an order of techniques may be claimed: not where seeds differ more than techniques on both networks; None
    while that is not known."""
    spreads = [spread_of(evidence, backbone) for backbone in REPEATED]
    if any(spread and spread[1] <= spread[0] for spread in spreads):
        return True
    return None if None in spreads else False


def table_of_claims(evidence: Evidence) -> Iterator[str]:
    yield "| claim | what we found | |"
    yield "| --- | --- | --- |"
    for claim, ask in CLAIMS.items():
        answer = ask(evidence)
        yield f"| {claim} | {answer.words} | {verdict(claim, answer.holds, evidence)} |"


def verdict(claim: str, holds: bool | None, evidence: Evidence) -> str:
    """A word; nothing is judged before all is there, and no order where seeds leave none."""
    if holds is None or not evidence.whole or (claim in OF_ORDER and not ordered(evidence)):
        return "open"
    if not holds:
        return "refuted"
    return "not refuted" if claim in NOT_SHOWN else "upheld"


def table_of_leaders(evidence: Evidence) -> Iterator[str]:
    """Of each network the leader; called the best where its leads on all others exclude zero, by Holm over all
    comparisons with the leaders of the networks that are to have several seeds, once all of these have them."""
    columns = {backbone: _column(evidence, backbone) for backbone in BACKBONES}
    repeated = REPEATED if all(evidence.seeds(backbone) >= SEEDS for backbone in REPEATED) else ()
    gaps = [difference(columns[name][0][1], other) for name in repeated for _, other in columns[name][1:]]
    sure = holm([chance_of(gap) for gap in gaps])
    others = len(TECHNIQUES) - 1
    leads = {name: all(sure[place * others : (place + 1) * others]) for place, name in enumerate(repeated)}
    yield "| network | first | second | lead | best beyond the interval |"
    yield "| --- | --- | --- | ---: | --- |"
    for backbone, column in columns.items():
        if len(column) > 1:
            lead = difference(column[0][1], column[1][1])
            texts = [f"{title(name)} {share(mean.value)}" for name, mean in column[:2]]
            said = f"not asked: fewer than {SEEDS} seeds"
            if backbone in leads:
                said = "yes" if leads[backbone] and ordered(evidence) else "no"
            half = "?" if lead.half is None else share(lead.half)
            yield f"| {backbone} | {' | '.join(texts)} | {share(lead.value)} ± {half} | {said} |"


def table_of_orders(evidence: Evidence, small: dict[str, Evidence]) -> Iterator[str]:
    """How well each smaller study tells the order of the cells of the large one."""
    yield "| smaller study | cells | rho with the large one | as high by chance |"
    yield "| --- | ---: | ---: | ---: |"
    for epoch in evidence.epochs[1:-1]:
        yield _order_row(f"its own epoch {epoch}", evidence.by_seed, evidence.by_seed_at(epoch), same_runs=True)
    for name, other in small.items():
        yield _order_row(Path(name).name, evidence.by_seed, other.by_seed)


def _order_row(name: str, large: dict[Cell, Seeds], small: dict[Cell, Seeds], *, same_runs: bool = False) -> str:
    rho, low, high = order(large, small, same_runs=same_runs)
    chance = by_chance(_means(large), _means(small))
    cells = f"{len(large.keys() & small.keys())} | {signed(rho)} ({signed(low)} to {signed(high)})"
    return f"| {name} | {cells} | {'–' if math.isnan(chance) else f'{chance:.1%}'} |"


def order(one: dict[Cell, Seeds], two: dict[Cell, Seeds], *, same_runs: bool = False) -> tuple[float, float, float]:
    """Spearman's rho of the cells that both have, and its 95 % interval by bootstrap over cells and each one's seeds.

    Of the `same_runs` both sides draw the same seeds.
    """
    common, rng = sorted(one.keys() & two.keys()), np.random.default_rng(0)
    rho = spearman(*(pd.Series(_means(side)).loc[common] for side in (one, two))) if common else math.nan
    if len(common) < 3:
        return rho, -1.0, 1.0
    drawn = rng.integers(len(common), size=(AGAIN, len(common)))
    sides = [np.zeros(drawn.shape) for _ in (one, two)]
    for place, cell in enumerate(common):
        wanted = drawn == place
        for values, mean in zip(_redrawn(one[cell], two[cell], int(wanted.sum()), rng, same_runs), sides, strict=True):
            mean[wanted] = values
    ranks = [pd.DataFrame(side).rank(axis=1).to_numpy() for side in sides]
    first, second = (side - side.mean(1, keepdims=True) for side in ranks)
    length = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    rhos = (first * second).sum(1)[length > 0] / length[length > 0]  # 0: a side of one value alone
    low, high = np.quantile(rhos, [0.025, 0.975]) if len(rhos) else (-1.0, 1.0)
    return rho, float(low), float(high)


def _redrawn(one: Seeds, two: Seeds, times: int, rng: np.random.Generator, same_runs: bool) -> Iterator[np.ndarray]:
    """Of a cell on both sides, means of its seeds drawn with replacement."""
    if same_runs:
        one, two = ({seed: side[seed] for seed in sorted(one.keys() & two.keys())} for side in (one, two))
    places = [rng.integers(len(side), size=(times, len(side))) for side in (one, two)]
    for side, own in zip((one, two), [places[0]] * 2 if same_runs else places, strict=True):
        yield np.array(list(side.values()))[own].mean(1)


def by_chance(one: dict[Cell, float], two: dict[Cell, float]) -> float:
    """How often the rank correlation of two whole grids is as high where one's techniques are named anew, and its
    networks: all ways of it, their own among them. NaN where a grid is not whole."""
    common = one.keys() & two.keys()
    techniques, backbones = ([name for name in names if any(name in cell for cell in common)] for names in GRID)
    if len(common) < len(techniques) * len(backbones) or min(len(techniques), len(backbones)) < 2:
        return math.nan
    ranks = [
        pd.Series([side[technique, backbone] for technique in techniques for backbone in backbones]).rank()
        for side in (one, two)
    ]
    first, second = (side.to_numpy().reshape(len(techniques), -1) - side.mean() for side in ranks)
    rows, columns = (np.array(list(itertools.permutations(range(count)))) for count in first.shape)
    dealt = second[rows[:, None, :, None], columns[None, :, None, :]]
    products = (dealt * first).sum((2, 3))
    return float((products >= (second * first).sum() - 1e-9).mean())


def _column(evidence: Evidence, backbone: str) -> list[tuple[str, Mean]]:
    found = [(technique, mean) for (technique, own), mean in evidence.cells.items() if own == backbone]
    return sorted(found, key=lambda pair: -pair[1].value)


def _mean_of(evidence: Evidence, techniques: tuple[str, ...], backbone: str) -> float:
    return float(np.mean([evidence.cells[technique, backbone].value for technique in techniques]))


def _complete(evidence: Evidence) -> list[str]:
    """The networks of which every technique is there."""
    return [name for name in BACKBONES if all((technique, name) in evidence.cells for technique in TECHNIQUES)]


def _by_seed(rows: pd.DataFrame) -> dict[Cell, Seeds]:
    return {cell: dict(zip(own.seed, own.value, strict=True)) for cell, own in rows.groupby(CELL[:2])}


def _means(by_seed: dict[Cell, Seeds]) -> dict[Cell, float]:
    return {cell: float(np.mean(list(seeds.values()))) for cell, seeds in by_seed.items()}


if __name__ == "__main__":
    main()
