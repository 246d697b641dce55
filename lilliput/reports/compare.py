"""Two studies side by side, or a study and the paper's Table 1."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.errors import BadData
from lilliput.reports import markdown, paper
from lilliput.reports.gaps import comparable
from lilliput.reports.material import open_material
from lilliput.reports.words import cells_of, share, signed, title
from lilliput.studies.mistakes import shares_right
from lilliput.studies.record import read_study
from lilliput.studies.results import CELL
from lilliput.studies.statistics import (
    Mean,
    accuracies,
    chance_of,
    difference,
    holm,
    interval,
    select,
    spearman,
    spearman_interval,
)
from lilliput.system.mirror import here
from lilliput.system.visible import visible

PAPER = "paper"
CONDITIONS = ("data_digest", "judge", "image_size", "pool_images", "epochs", "batch", "recipe", "seeds", "commit")


class Side(NamedTuple):
    """What is compared: (technique, backbone) -> accuracy and what is known of its uncertainty."""

    name: str
    cells: dict[tuple[str, str], Mean]
    settings: Mapping[str, Any] | None  # of its study; the paper has none


def compare(one: str | Path, two: str | Path) -> str:
    """A table in Markdown: both accuracies of every cell that both have, their difference, and whether it is beyond
    uncertainty. Linear probe, the highest on test of all checkpoints, which is what the paper reports. BadData where a
    side holds no study or nothing is common."""
    first, second = _comparable(_side(one), _side(two))
    common = sorted((cell for cell in first.cells if cell in second.cells), key=_place)
    if not common:
        raise BadData(f"{first.name} and {second.name} have no technique and backbone in common")
    sure = beyond(common, first, second)
    lines = [
        f"| technique | backbone | {markdown.escape(first.name)} | {markdown.escape(second.name)} | difference | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        *(_line(cell, first, second, known) for cell, known in zip(common, sure, strict=True)),
        "",
        _summary(common, first, second, sure),
        "",
        *_differences(first, second),
    ]
    return "\n".join(lines)


def _side(source: str | Path) -> Side:
    if str(source) == PAPER:
        return Side("the paper's Table 1", _unsure(paper.TABLE_1), None)
    folder = here(source)
    material = open_material(folder)
    if not (folder / "study.json").exists() or material.rows.empty:
        raise BadData(f"{folder} is not the folder of a judged study; give one, or the word {PAPER}")
    record = read_study(folder)
    rows = comparable(material, material.rows[material.rows.judge == record["judge"]])
    selected = select(rows)
    groups = list(selected[~selected.technique.isin(BASELINES)].groupby(CELL[:2]))
    right = [shares_right(rows, seeds, seeds.best_epoch) for _, seeds in groups]
    means = accuracies([seeds.best for _, seeds in groups], record["test_images"], right)
    names = [(title(technique), paper.backbone(backbone) or backbone) for (technique, backbone), _ in groups]
    return Side(str(folder), dict(zip(names, means, strict=True)), record)


def _unsure(table: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], Mean]:
    return {cell: Mean(value, math.nan, math.inf) for cell, value in table.items()}


def _comparable(first: Side, second: Side) -> tuple[Side, Side]:
    """As they are, or, where their test images are not the same, without what each is right on."""
    one, two = ((side.settings or {}).get("judge_digests") for side in (first, second))
    if isinstance(one, list) and isinstance(two, list) and one[1:] == two[1:]:
        return first, second
    return _unpaired(first), _unpaired(second)


def _unpaired(side: Side) -> Side:
    return side._replace(cells={cell: mean._replace(right=None) for cell, mean in side.cells.items()})


def beyond(common: list[tuple[str, str]], first: Side, second: Side) -> list[bool]:
    """Of which cells the difference is beyond uncertainty: where none differ, none of them in 95 % of comparisons."""
    return holm([chance_of(difference(second.cells[cell], first.cells[cell])) for cell in common])


def _line(cell: tuple[str, str], first: Side, second: Side, sure: bool) -> str:
    gap = difference(second.cells[cell], first.cells[cell])
    certainty = "" if gap.half is None else "beyond uncertainty" if sure else "within uncertainty"
    half = "" if gap.half is None else f" ± {share(gap.half)}"
    technique, backbone = map(markdown.escape, cell)
    a, b = first.cells[cell].value, second.cells[cell].value
    return f"| {technique} | {backbone} | {share(a)} | {share(b)} | {signed(gap.value, 3)}{half} | {certainty} |"


def _summary(common: list[tuple[str, str]], first: Side, second: Side, sure: list[bool]) -> str:
    a, b = (pd.Series([side.cells[cell].value for cell in common]) for side in (first, second))
    mean, half = interval(b - a)
    text = f"{cells_of(len(common))} in common; mean difference {signed(mean, 3)}"
    text += "" if half is None else f" ± {share(half)} (95 % t-interval over the cells)"
    correlation = spearman(a, b)
    if len(common) > 2 and not math.isnan(correlation):
        low, high = spearman_interval(correlation, len(common))
        text += (
            f"; Spearman's rank correlation {signed(correlation)} ({signed(low)} to {signed(high)}, Fisher's z, 95 %)"
        )
    if any(not math.isnan(first.cells[cell].variance + second.cells[cell].variance) for cell in common):
        known = any(first.cells[cell].right is not None and second.cells[cell].right is not None for cell in common)
        paired = ", image by image, for their test images are the same" if known else ""
        text += (
            f". ± of a cell is its own 95 % interval by Welch{paired}; beyond uncertainty is what stays so by Holm's "
            f"correction for {cells_of(len(common))}: {sum(sure) or 'none'}"
        )
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
