"""What the rows say, in plain words and with their uncertainty: which technique and backbone, and what is too close.

The figure compared is the test accuracy of the checkpoint chosen on held-out training images. With one seed its
uncertainty is that of the test images alone, with more it is that of the mean over seeds.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports.words import count, share, title
from lilliput.studies.results import CELL
from lilliput.studies.statistics import accuracy_interval, select
from lilliput.system.progress import duration

UNTRAINED = ("random_init", "random_init_measured")
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

    @property
    def name(self) -> str:
        return f"{title(self.technique)} on {self.backbone}" if self.backbone else title(self.technique)

    @property
    def share(self) -> str:
        """Its accuracy and how sure it is."""
        return f"{share(self.accuracy)} ± {share(self.half)}"


Baselines = dict[tuple[str, str], Standing]  # by technique and backbone


def standings(rows: pd.DataFrame, test_images: int | None) -> list[Standing]:
    """All cells, the most accurate first; baselines too."""
    selected = select(rows).dropna(subset=["last"])
    selected["value"] = selected.chosen.fillna(selected["last"])
    costs = rows.groupby(CELL[:2])[["multiply_adds", "seconds"]].max()
    cells = []
    for (technique, backbone), seeds in selected.groupby(CELL[:2]):
        mean, half = accuracy_interval(seeds.value, test_images)
        cost = costs.loc[(technique, backbone)]
        epoch = seeds.chosen_epoch.fillna(seeds.last_epoch).mean()
        cells.append(Standing(technique, backbone, mean, half or 0.0, epoch, cost.multiply_adds, cost.seconds))
    return sorted(cells, key=lambda cell: -cell.accuracy)


def too_close(better: Standing, worse: Standing) -> bool:
    """Whether 95 % intervals of the difference hold zero, the two taken as independent."""
    return better.accuracy - worse.accuracy <= math.hypot(better.half, worse.half)


def verdict(rows: pd.DataFrame, *, test_images: int | None, seeds: int) -> list[str]:
    """Sentences, the most important first; computed from rows of one judge."""
    everything = standings(rows, test_images)
    cells = [cell for cell in everything if cell.technique not in BASELINES]
    baselines = {(cell.technique, cell.backbone): cell for cell in everything if cell.technique in BASELINES}
    if not cells:
        return ["Nothing has been pretrained and judged yet."]
    return [
        *_leader(cells),
        *_by_backbone(cells),
        *_beside_untrained(cells, baselines),
        *_beside_pixels(cells, baselines),
        *_of_one_seed(seeds),
    ]


def _leader(cells: list[Standing]) -> list[str]:
    """The best, what is too close to it, and the smallest network of these."""
    best, rest = cells[0], cells[1:]
    ties = [cell for cell in rest if too_close(best, cell)]
    sentences = [
        f"{best.name} is the most accurate: {best.share}, by the checkpoint of epoch {best.epoch:.0f} of a "
        f"pretraining of {duration(best.seconds)}, at {count(best.multiply_adds)} multiply-adds an image."
    ]
    if ties:
        listed = _listed([f"{cell.name} ({cell.share})" for cell in ties])
        sentences.append(
            f"Too close to call: {len(ties)} of the other {len(rest)} cells are within its uncertainty: {listed}."
        )
    elif rest:
        sentences.append(
            f"No other of the {len(rest) + 1} cells is within its uncertainty; the next is {rest[0].name}."
        )
    smaller = [cell for cell in ties if cell.multiply_adds < best.multiply_adds]
    if smaller:
        smallest = min(smaller, key=lambda cell: cell.multiply_adds)
        sentences.append(
            f"If the network must be small, {smallest.name} is not told apart from the best and needs "
            f"{smallest.multiply_adds / best.multiply_adds:.0%} of its multiply-adds."
        )
    return sentences


def _by_backbone(cells: list[Standing]) -> list[str]:
    """Which technique leads on how many backbones."""
    backbones = sorted({cell.backbone for cell in cells})
    if len(backbones) < 2 or len({cell.technique for cell in cells}) < 2:
        return []
    columns = [[cell for cell in cells if cell.backbone == backbone] for backbone in backbones]
    leaders = Counter(column[0].technique for column in columns)
    sure = sum(len(column) > 1 and not too_close(column[0], column[1]) for column in columns)
    ranked = ", ".join(f"{title(technique)} on {wins}" for technique, wins in leaders.most_common())
    return [f"By backbone, of {len(backbones)}, the leader is {ranked}; beyond uncertainty on {sure} of them."]


def _beside_untrained(cells: list[Standing], baselines: Baselines) -> list[str]:
    untrained = [cell for (technique, _), cell in baselines.items() if technique in UNTRAINED]
    unlearned = [
        cell.name
        for cell in cells
        if any(too_close(cell, start) for start in untrained if start.backbone == cell.backbone)
    ]
    if unlearned:
        return [
            f"Not shown to have learned anything: {len(unlearned)} cells are not above an untrained network: "
            f"{_listed(unlearned)}."
        ]
    return ["Every cell is above its untrained network beyond uncertainty."] if untrained else []


def _beside_pixels(cells: list[Standing], baselines: Baselines) -> list[str]:
    pixels = baselines.get(("pixels", ""))
    if pixels is None:
        return []
    below = sum(cell.accuracy <= pixels.accuracy for cell in cells)
    rest = f"{below} of {len(cells)} cells do not." if below else "all cells do better."
    return [f"A linear probe on the bare pixels reaches {pixels.share}; {rest}"]


def _of_one_seed(seeds: int) -> list[str]:
    if seeds != 1:
        return []
    return [
        "One seed: the intervals are those of the test images alone. Another seed may move a cell by more; give "
        "--seeds 0 1 2 before a choice is built on a small difference."
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
