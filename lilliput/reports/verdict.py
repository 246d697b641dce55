"""What the rows say, in plain words and with their uncertainty: which technique and backbone, and what is too close.

The figure compared is the test accuracy of the checkpoint chosen on held-out training images. With one seed its
uncertainty is that of the test images alone, with more it is that of the mean over seeds.
"""

import math
from typing import NamedTuple

import pandas as pd

from lilliput.reports import paper
from lilliput.studies.results import BASELINES, CELL
from lilliput.studies.statistics import interval, select, wilson
from lilliput.system.progress import duration


class Standing(NamedTuple):
    """A technique on a backbone: accuracy, half of its 95 % interval, and what it cost."""

    technique: str
    backbone: str
    accuracy: float
    half: float
    epoch: float
    multiply_adds: float
    seconds: float


def standings(rows: pd.DataFrame, test_images: int | None) -> list[Standing]:
    """All cells, the most accurate first; baselines too."""
    picked = select(rows).dropna(subset=["last"])
    picked["value"] = picked.chosen.fillna(picked["last"])
    costs = rows.groupby(CELL[:2])[["multiply_adds", "seconds"]].max()
    found = []
    for (technique, backbone), cell in picked.groupby(CELL[:2]):
        mean, half = interval(cell.value)
        if half is None:
            low, high = wilson(mean * test_images, test_images) if test_images else (mean, mean)
            half = (high - low) / 2
        cost = costs.loc[(technique, backbone)]
        epoch = cell.chosen_epoch.fillna(cell.last_epoch).mean()
        found.append(Standing(technique, backbone, mean, half, epoch, cost.multiply_adds, cost.seconds))
    return sorted(found, key=lambda one: -one.accuracy)


def too_close(best: Standing, other: Standing) -> bool:
    """Whether 95 % intervals of the difference hold zero, the two taken as independent."""
    return best.accuracy - other.accuracy <= math.hypot(best.half, other.half)


def verdict(rows: pd.DataFrame, *, test_images: int | None, seeds: int) -> list[str]:
    """Sentences, the most important first; computed from rows of one judge."""
    everything = standings(rows, test_images)
    cells = [one for one in everything if one.technique not in BASELINES]
    base = {(one.technique, one.backbone): one for one in everything if one.technique in BASELINES}
    if not cells:
        return ["Nothing has been pretrained and judged yet."]
    best, rest = cells[0], cells[1:]
    ties = [one for one in rest if too_close(best, one)]
    said = [
        f"{_named(best)} is the most accurate: {_share(best)}, by the checkpoint of epoch {best.epoch:.0f} of a "
        f"pretraining of {duration(best.seconds)}, at {_count(best.multiply_adds)} multiply-adds an image."
    ]
    if ties:
        shown = ", ".join(f"{_named(one)} ({_share(one)})" for one in ties[:6]) + (", ..." if len(ties) > 6 else "")
        said.append(
            f"Too close to call: {len(ties)} of the other {len(rest)} cells are within its uncertainty: {shown}."
        )
    elif rest:
        said.append(f"No other of the {len(rest) + 1} cells is within its uncertainty; the next is {_named(rest[0])}.")
    cheap = [one for one in [best, *ties] if one.multiply_adds < best.multiply_adds]
    if cheap:
        least = min(cheap, key=lambda one: one.multiply_adds)
        said.append(
            f"If the network must be small, {_named(least)} is not told apart from the best and needs "
            f"{least.multiply_adds / best.multiply_adds:.0%} of its multiply-adds."
        )
    said += _techniques(cells)
    said += _beside_baselines(cells, base)
    if seeds == 1:
        said.append(
            "One seed: the intervals are those of the test images alone. Another seed may move a cell by more; give "
            "--seeds 0 1 2 before a choice is built on a small difference."
        )
    return said


def _techniques(cells: list[Standing]) -> list[str]:
    """Which technique leads on how many backbones."""
    backbones = sorted({one.backbone for one in cells})
    if len(backbones) < 2 or len({one.technique for one in cells}) < 2:
        return []
    leaders: dict[str, int] = {}
    sure = 0
    for backbone in backbones:
        own = [one for one in cells if one.backbone == backbone]
        leaders[own[0].technique] = leaders.get(own[0].technique, 0) + 1
        sure += len(own) > 1 and not too_close(own[0], own[1])
    ranked = sorted(leaders.items(), key=lambda one: -one[1])
    text = ", ".join(f"{_title(name)} on {count}" for name, count in ranked)
    return [f"By backbone, of {len(backbones)}, the leader is {text}; beyond uncertainty on {sure} of them."]


def _beside_baselines(cells: list[Standing], base: dict[tuple[str, str], Standing]) -> list[str]:
    said = []
    lost = []
    for one in cells:
        starts = [base[name, one.backbone] for name in BASELINES[1:3] if (name, one.backbone) in base]
        if starts and any(one.accuracy - start.accuracy <= math.hypot(one.half, start.half) for start in starts):
            lost.append(one)
    if lost:
        shown = ", ".join(_named(one) for one in lost[:6]) + (", ..." if len(lost) > 6 else "")
        said.append(
            f"Not shown to have learned anything: {len(lost)} cells are not above an untrained network: {shown}."
        )
    elif any(name in BASELINES[1:3] for name, _ in base):
        said.append("Every cell is above its untrained network beyond uncertainty.")
    if pixels := base.get(("pixels", "")):
        below = [one for one in cells if one.accuracy <= pixels.accuracy]
        text = f"A linear probe on the bare pixels reaches {_share(pixels)}"
        said.append(f"{text}; {len(below)} of {len(cells)} cells do not." if below else f"{text}; all cells do better.")
    return said


def _named(one: Standing) -> str:
    return f"{_title(one.technique)} on {one.backbone}" if one.backbone else _title(one.technique)


def _title(technique: str) -> str:
    return paper.technique(technique) or technique


def _share(one: Standing) -> str:
    return f"{one.accuracy:.3f} ± {one.half:.3f}".replace("0.", ".")


def _count(number: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f}"
