"""What the rows say, in plain words and with their uncertainty: which technique and backbone, and what is too close.

The figure compared is the test accuracy of the checkpoint chosen on held-out training images. Its uncertainty is that
of the test images, with several seeds also that of the mean over them; two that were judged on the same images are
compared image by image. What is said of many cells holds of all of them
together in 95 % of studies: the best may be any that Hsu's comparisons with the best leave, a cell is called worse only
beyond the studentized range, and comparisons with baselines are corrected by Holm.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports.words import cells_of, count, share, title
from lilliput.studies.mistakes import shares_right
from lilliput.studies.results import CELL
from lilliput.studies.statistics import (
    Mean,
    accuracies,
    chance_of,
    counted_at,
    difference,
    holm,
    may_be_best,
    select,
    worse,
)
from lilliput.system.progress import duration

SEEDLESS = ("pixels", "imagenet")  # nothing of them is drawn by chance
UNTRAINED = ("random_init", "random_init_measured")
SIDES = ("above", "level", "below")  # of what a cell is held against
MOST_NAMED = 6  # cells in one sentence


class Standing(NamedTuple):
    """A technique on a backbone: accuracy, half of its 95 % interval, and what it cost."""

    technique: str
    backbone: str
    accuracy: float
    half: float
    epoch: float
    multiply_adds: float
    seconds: float
    mean: Mean

    @property
    def name(self) -> str:
        return f"{title(self.technique)} on {self.backbone}" if self.backbone else title(self.technique)

    @property
    def share(self) -> str:
        """Its accuracy and how sure it is."""
        return f"{share(self.accuracy)} ± {share(self.half)}"


Baselines = dict[tuple[str, str], Standing]  # by technique and backbone


def standings(rows: pd.DataFrame, test_images: int | None, *, start: bool = False) -> list[Standing]:
    """All cells, the most accurate first; baselines too. With `start`, the cells before they learned anything."""
    selected = counted_at(select(rows, start=start).dropna(subset=["last"]))
    costs = rows.groupby(CELL[:2])[["multiply_adds", "seconds"]].max()
    groups = list(selected.groupby(CELL[:2]))
    cells = []
    right = [shares_right(rows, seeds, seeds.epoch) for _, seeds in groups]
    means = accuracies([seeds.value for _, seeds in groups], test_images, right)
    for ((technique, backbone), seeds), mean in zip(groups, means, strict=True):
        if technique in SEEDLESS:
            (mean,) = accuracies([seeds.value], test_images, [mean.right])
        cost = costs.loc[(technique, backbone)]
        spent = (cost.multiply_adds, cost.seconds)
        cells.append(Standing(technique, backbone, mean.value, mean.half or 0.0, seeds.epoch.mean(), *spent, mean))
    return sorted(cells, key=lambda cell: -cell.accuracy)


def verdict(rows: pd.DataFrame, *, test_images: int | None, seeds: int) -> list[str]:
    """Sentences, the most important first; computed from rows of one judge."""
    cells, baselines = parted(standings(rows, test_images))
    if not cells:
        return ["Nothing has been pretrained and judged yet."]
    return [
        *_leader(cells),
        *_by_backbone(cells),
        *_beside_untrained(cells, baselines, standings(rows, test_images, start=True)),
        *_beside_pixels(cells, baselines),
        *_of_one_seed(seeds),
    ]


def _leader(cells: list[Standing]) -> list[str]:
    """The best, what may be it as well, how many are surely worse, and the smallest network of the first two."""
    best, rest = cells[0], cells[1:]
    equal = [cell.name for cell in rest if cell.accuracy == best.accuracy]
    spent = f"{duration(best.seconds)}, at {count(best.multiply_adds)} multiply-adds an image"
    how = "is the most accurate" if not equal else f"and {_listed(equal)} are the most accurate, level"
    sentences = [
        f"{best.name} {how}: {best.share}, by the checkpoint of epoch {best.epoch:.0f} of a pretraining of {spent}."
    ]
    ties = [cell for cell, may in zip(cells, may_be_best([cell.mean for cell in cells]), strict=True) if may]
    ties = [cell for cell in ties if cell is not best]
    if ties:
        listed = _listed([f"{cell.name} ({cell.share})" for cell in ties])
        which = f"{len(ties)} of the other {cells_of(len(rest))}" if len(rest) > 1 else "the other cell"
        sentences.append(
            f"Too close to call: {which} may be the best as well (Hsu's "
            f"comparisons with the best, 95 %): {listed}. {_worse(cells)}"
        )
    elif rest:
        sentences.append(
            f"No other of the {cells_of(len(cells))} may be the best (Hsu's comparisons with the best, 95 %); the next "
            f"is {rest[0].name}. {_worse(cells)}"
        )
    smaller = [cell for cell in ties if cell.multiply_adds < best.multiply_adds]
    if smaller:
        smallest = min(smaller, key=lambda cell: cell.multiply_adds)
        sentences.append(
            f"If the network must be small, {smallest.name} is not told apart from the best and needs "
            f"{smallest.multiply_adds / best.multiply_adds:.0%} of its multiply-adds."
        )
    return sentences


def _worse(cells: list[Standing]) -> str:
    beaten = sum(worse([cell.mean for cell in cells]))
    return f"Worse than another beyond uncertainty (studentized range, 95 %): {beaten or 'none'}."


def _by_backbone(cells: list[Standing]) -> list[str]:
    """Which technique leads on how many backbones; that so many are sure holds of all backbones together."""
    backbones = sorted({cell.backbone for cell in cells})
    if len(backbones) < 2 or len({cell.technique for cell in cells}) < 2:
        return []
    columns = [[cell for cell in cells if cell.backbone == backbone] for backbone in backbones]
    leaders = Counter(
        " and ".join(title(cell.technique) for cell in column if cell.accuracy == column[0].accuracy)
        for column in columns
    )
    contested = [column for column in columns if len(column) > 1]
    level = 0.05 / len(contested) if contested else 0.05
    sure = sum(sum(may_be_best([cell.mean for cell in column], level)) == 1 for column in contested)
    ranked = ", ".join(f"{techniques} on {wins}" for techniques, wins in leaders.most_common())
    return [
        f"By backbone, of {len(backbones)}, the leader is {ranked}; beyond uncertainty on {sure or 'none'} of them."
    ]


def parted(everything: list[Standing]) -> tuple[list[Standing], Baselines]:
    cells = [cell for cell in everything if cell.technique not in BASELINES]
    return cells, {(cell.technique, cell.backbone): cell for cell in everything if cell.technique in BASELINES}


def learned(rows: pd.DataFrame, *, test_images: int | None) -> dict[tuple[str, str], str]:
    """Of each technique and backbone: whether it is "above", "level" with or "below" its untrained network."""
    cells, baselines = parted(standings(rows, test_images))
    pairs = with_untrained(cells, baselines, standings(rows, test_images, start=True))
    sides = zip(SIDES, _beside(pairs), strict=True)
    return {(cell.technique, cell.backbone): side for side, found in sides for cell in found}


def with_untrained(
    cells: list[Standing], baselines: Baselines, starts: list[Standing]
) -> list[tuple[Standing, Standing]]:
    """Each cell beside the best of the untrained: its backbone's, and what it started from itself.

    A recipe may begin otherwise than the stock network does: with its residual branches silent, or from given weights.
    """
    untrained = [cell for (technique, _), cell in baselines.items() if technique in UNTRAINED]
    pairs = []
    for cell in cells:
        own = [one for one in untrained if one.backbone == cell.backbone]
        own += [one for one in starts if (one.technique, one.backbone) == (cell.technique, cell.backbone)]
        if own:
            pairs.append((cell, max(own, key=lambda one: one.accuracy)))
    return pairs


def _beside_untrained(cells: list[Standing], baselines: Baselines, starts: list[Standing]) -> list[str]:
    pairs = with_untrained(cells, baselines, starts)
    if not pairs:
        return []
    above, level, below = (_names(side) for side in _beside(pairs))
    if len(above) == len(cells):
        return ["Every cell is above its untrained network beyond uncertainty."]
    sentences = [f"Above their untrained networks beyond uncertainty: {len(above)} of {cells_of(len(pairs))}."]
    if level:
        sentences.append(
            f"Not shown to have learned anything, level with it: {cells_of(len(level))}: {_listed(level)}."
        )
    if below:
        sentences.append(f"Worse than it beyond uncertainty: {cells_of(len(below))}: {_listed(below)}.")
    return [" ".join(sentences)]


def _beside_pixels(cells: list[Standing], baselines: Baselines) -> list[str]:
    pixels = baselines.get(("pixels", ""))
    if pixels is None:
        return []
    above, level, below = map(len, _beside([(cell, pixels) for cell in cells]))
    return [
        f"A linear probe on the bare pixels reaches {pixels.share}; of {cells_of(len(cells))}, beyond uncertainty, "
        f"{above or 'none'} better and {below or 'none'} worse; level with it: {level or 'none'}."
    ]


def _beside(pairs: Sequence[tuple[Standing, Standing]]) -> tuple[list[Standing], list[Standing], list[Standing]]:
    """The cells that are above, level with and below what each is paired with, by Welch and Holm."""
    gaps = [difference(cell.mean, other.mean) for cell, other in pairs]
    sides: tuple[list[Standing], list[Standing], list[Standing]] = ([], [], [])
    for (cell, _), gap, sure in zip(pairs, gaps, holm([chance_of(gap) for gap in gaps]), strict=True):
        sides[1 if not sure else 0 if gap.value > 0 else 2].append(cell)
    return sides


def _names(cells: Sequence[Standing]) -> list[str]:
    return [cell.name for cell in cells]


def _of_one_seed(seeds: int) -> list[str]:
    if seeds != 1:
        return []
    return [
        "One seed: the intervals are those of the test images alone. Another seed may move a cell by more; give "
        "--seeds 0 1 2 before a choice is built on a small difference."
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
