"""Two studies side by side, or a study and the paper's Table 1."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.errors import BadData
from lilliput.reports import markdown, paper
from lilliput.reports.words import share, signed, title
from lilliput.studies import results
from lilliput.studies.record import read_study
from lilliput.studies.results import CELL
from lilliput.studies.statistics import accuracy_interval, finished, select, spearman
from lilliput.system.visible import visible

PAPER = "paper"
CONDITIONS = ("data_digest", "judge", "image_size", "pool_images", "epochs", "batch", "recipe", "seeds", "commit")


class Side(NamedTuple):
    """What is compared: (technique, backbone) -> accuracy and half of its 95 % interval, None where it is unknown."""

    name: str
    cells: dict[tuple[str, str], tuple[float, float | None]]
    settings: Mapping[str, Any] | None  # of its study; the paper has none


def compare(one: str | Path, two: str | Path) -> str:
    """A table in Markdown: both accuracies of every cell that both have, their difference, and whether it is beyond the
    uncertainty. Linear probe, the highest on test of all checkpoints, which is what the paper reports. BadData where a
    side holds no study or nothing is common."""
    first, second = _side(one), _side(two)
    common = [cell for cell in first.cells if cell in second.cells]
    if not common:
        raise BadData(f"{first.name} and {second.name} have no technique and backbone in common")
    lines = [
        f"| technique | backbone | {markdown.escape(first.name)} | {markdown.escape(second.name)} | difference | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        *(_line(cell, first, second) for cell in sorted(common, key=_place)),
        "",
        _summary(common, first, second),
        "",
        *_differences(first, second),
    ]
    return "\n".join(lines)


def _side(source: str | Path) -> Side:
    if str(source) == PAPER:
        return Side("the paper's Table 1", {cell: (value, None) for cell, value in paper.TABLE_1.items()}, None)
    folder = Path(source)
    rows = results.read(folder)
    if not (folder / "study.json").exists() or rows.empty:
        raise BadData(f"{folder} is not the folder of a judged study; give one, or the word {PAPER}")
    record = read_study(folder)
    selected = select(finished(rows[rows.judge == record["judge"]]))
    cells = {
        (title(technique), paper.backbone(backbone) or backbone): accuracy_interval(seeds.best, record["test_images"])
        for (technique, backbone), seeds in selected[~selected.technique.isin(BASELINES)].groupby(CELL[:2])
    }
    return Side(str(folder), cells, record)


def _line(cell: tuple[str, str], first: Side, second: Side) -> str:
    (a, half_a), (b, half_b) = first.cells[cell], second.cells[cell]
    certainty = ""
    if half_a is not None and half_b is not None:
        certainty = "beyond uncertainty" if abs(b - a) > math.hypot(half_a, half_b) else "within uncertainty"
    technique, backbone = map(markdown.escape, cell)
    return f"| {technique} | {backbone} | {share(a)} | {share(b)} | {signed(b - a, 3)} | {certainty} |"


def _summary(common: list[tuple[str, str]], first: Side, second: Side) -> str:
    a, b = (pd.Series([side.cells[cell][0] for cell in common]) for side in (first, second))
    text = f"{len(common)} cells in common; mean difference {signed((b - a).mean(), 3)}"
    correlation = spearman(a, b)
    if len(common) > 2 and not math.isnan(correlation):
        text += f"; Spearman's rank correlation {signed(correlation)}"
    return f"{text}."


def _differences(first: Side, second: Side) -> list[str]:
    """Settings that differ: what else may be behind a difference."""
    if first.settings is None or second.settings is None:
        return [
            "The paper: STL-10 at 96 px, 100,000 images without labels, 100 epochs or more. On other data, sizes or "
            "lengths this compares the order of techniques and networks, not their accuracies."
        ]
    pairs = {name: (first.settings.get(name), second.settings.get(name)) for name in CONDITIONS}
    differing = [visible(f"- {name}: {a} / {b}") for name, (a, b) in pairs.items() if a != b]
    return ["Settings that differ:", *differing] if differing else ["Their settings are the same."]


def _place(cell: tuple[str, str]) -> tuple[int, str, int, str]:
    """By the paper's order, then by alphabet."""
    techniques, backbones = list(paper.TECHNIQUES), list(paper.BACKBONES)
    row = techniques.index(cell[0]) if cell[0] in techniques else 99
    return row, cell[0], backbones.index(cell[1]) if cell[1] in backbones else 99, cell[1]
