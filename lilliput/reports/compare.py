"""Two studies side by side, or a study and the paper's Table 1."""

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lilliput.errors import BadData
from lilliput.reports import paper
from lilliput.studies import results, statistics
from lilliput.studies.record import read_study
from lilliput.studies.results import BASELINES, CELL
from lilliput.studies.statistics import interval, select, wilson
from lilliput.system.visible import visible

PAPER = "paper"


class Side(NamedTuple):
    """What is compared: (technique, backbone) -> accuracy and half of its 95 % interval, None where it is unknown."""

    name: str
    cells: dict[tuple[str, str], tuple[float, float | None]]


def compare(one: str | Path, two: str | Path) -> str:
    """A table in Markdown: both accuracies of every cell that both have, their difference, and whether it is beyond the
    uncertainty. Linear probe, the highest on test of all checkpoints, which is what the paper reports. BadData where a
    side holds no study or nothing is common."""
    first, second = _side(one), _side(two)
    common = [cell for cell in first.cells if cell in second.cells]
    if not common:
        raise BadData(f"{first.name} and {second.name} have no technique and backbone in common")
    lines = [
        f"| technique | backbone | {_cell(first.name)} | {_cell(second.name)} | difference | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for technique, backbone in sorted(common, key=_place):
        (a, half_a), (b, half_b) = first.cells[technique, backbone], second.cells[technique, backbone]
        known = half_a is not None and half_b is not None
        beyond = known and abs(b - a) > math.hypot(half_a or 0, half_b or 0)
        said = ("beyond uncertainty" if beyond else "within uncertainty") if known else ""
        names = _cell(paper.technique(technique) or technique), _cell(backbone)
        lines.append(f"| {names[0]} | {names[1]} | {a:.3f} | {b:.3f} | {b - a:+.3f} | {said} |")
    pairs = pd.DataFrame([(first.cells[cell][0], second.cells[cell][0]) for cell in common], columns=["a", "b"])
    lines += ["", f"{len(common)} cells in common; mean difference {(pairs.b - pairs.a).mean():+.3f}"]
    ranks = pairs.rank()
    if len(pairs) > 2 and (ranks.nunique() > 1).all():
        lines[-1] += f"; Spearman's rank correlation {ranks.a.corr(ranks.b):+.2f}"
    lines[-1] += "."
    return "\n".join([*lines, *_differences(one, two)])


def _side(where: str | Path) -> Side:
    if str(where) == PAPER:
        return Side("the paper's Table 1", {cell: (value, None) for cell, value in paper.TABLE_1.items()})
    folder = Path(where)
    rows = results.read(folder)
    if not (folder / "study.json").exists() or rows.empty:
        raise BadData(f"{folder} is not the folder of a judged study; give one, or the word {PAPER}")
    record = read_study(folder)
    picked = select(statistics.finished(rows[rows.judge == record["judge"]]))
    cells = {}
    for (technique, backbone), cell in picked[~picked.technique.isin(BASELINES)].groupby(CELL[:2]):
        mean, half = interval(cell.best)
        if half is None and record["test_images"]:
            low, high = wilson(mean * record["test_images"], record["test_images"])
            half = (high - low) / 2
        cells[paper.technique(technique) or technique, paper.backbone(backbone) or backbone] = mean, half
    return Side(str(folder), cells)


def _differences(one: str | Path, two: str | Path) -> list[str]:
    """Settings that differ: what else may be behind a difference."""
    if PAPER in (str(one), str(two)):
        return [
            "",
            "The paper: STL-10 at 96 px, 100,000 images without labels, 100 epochs or more. On other data, sizes or "
            "lengths this compares the order of techniques and networks, not their accuracies.",
        ]
    both = [read_study(Path(where)) for where in (one, two)]
    names = ["data_digest", "judge", "image_size", "pool_images", "epochs", "batch", "recipe", "seeds", "commit"]
    odd = [
        visible(f"- {name}: {a.get(name)} / {b.get(name)}")
        for a, b in [both]
        for name in names
        if a.get(name) != b.get(name)
    ]
    return ["", "Settings that differ:", *odd] if odd else ["", "Their settings are the same."]


def _place(cell: tuple[str, str]) -> tuple[int, str, int, str]:
    techniques, backbones = list(paper.TECHNIQUES), list(paper.BACKBONES)
    where = techniques.index(cell[0]) if cell[0] in techniques else 99
    return where, cell[0], backbones.index(cell[1]) if cell[1] in backbones else 99, cell[1]


def _cell(text: str) -> str:
    return visible(text).replace("|", "\\|")
