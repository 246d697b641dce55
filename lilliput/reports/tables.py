"""Rows to reading: the table in the shape of the paper's Table 1, its costs, and the figures.

Reads <study>/results.csv, study.json and the run folders below cells/, whichever of them are there; never memory.
"""

import math
import re
from pathlib import Path

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.errors import BadData
from lilliput.reports import figures, markdown, paper
from lilliput.reports.caption import caption
from lilliput.reports.costs import cell_costs, column_costs
from lilliput.reports.flags import flag_lines
from lilliput.reports.grid import Grid, grids
from lilliput.reports.material import Material, open_material
from lilliput.reports.style import own_style
from lilliput.reports.words import ABSENT, share, short, spelt
from lilliput.studies.results import CELL
from lilliput.studies.statistics import interval, select, spearman, spearman_interval
from lilliput.system.files import write_whole

BASELINE_ROWS = {
    "pixels": "pixels, no network",
    "random_init": "random init",
    "random_init_measured": "random init, batch norm measured",
    "supervised": "supervised, from scratch",
    "imagenet": "ImageNet's weights, supervised",
}
CHOICES = {
    "best": "highest test accuracy of all checkpoints: the paper's figure, which selects on the test images",
    "last": "last checkpoint",
    "chosen": "checkpoint chosen on held-out training images",
}
PROBES = {"linear": "Linear probe", "knn": "Nearest neighbours", "finetune": "Fine-tuning"}
Means = dict[tuple[str, str], tuple[float, float | None]]  # (technique, backbone) -> mean over seeds, its margin
FIGURES = {"figure1": figures.figure1, "figure2": figures.figure2, "cost": figures.cost_figure}


def report(folder: str | Path) -> list[Path]:
    """Write table.md, curves.csv, figure1, figure2 and cost (.png and .svg) into the study's folder; say which.

    The columns of curves.csv are those of `figures.curves`, and the judge.
    Raises BadData where the folder holds neither results.csv nor study.json.
    """
    return write_tables(open_material(folder))


@own_style()
def write_tables(material: Material) -> list[Path]:
    """As `report`, of a folder that was read already."""
    folder, judged = material.folder, _judged(material)
    write_whole(folder / "table.md", _text(judged).encode())
    paths = [folder / "table.md", folder / "curves.csv"]
    for grid in judged:
        for name in drawable(grid.rows):
            paths += figures.save(FIGURES[name](grid.rows), folder / f"{name}{grid.suffix}")
    drawn = [figures.curves(grid.rows).assign(judge=grid.judge) for grid in judged]
    curves = pd.concat(drawn, ignore_index=True)
    write_whole(folder / "curves.csv", curves.to_csv(index=False, lineterminator="\n").encode())
    return paths


def table_text(folder: str | Path) -> str:
    """The text of table.md: a section of tables for each data set that the encoders were judged on."""
    return _text(_judged(open_material(folder)))


def rank_agreement(rows: pd.DataFrame) -> tuple[float | None, int]:
    """Spearman's correlation of our best accuracies (means over seeds) with the paper's Table 1, and of how many cells.

    None where fewer than two cells are common or one side does not vary. Rows are those of one judge.
    """
    ours, theirs = [], []
    for (technique, backbone), (mean, _) in _means(select(rows), "best").items():
        cell = (paper.technique(technique), paper.backbone(backbone))
        if cell in paper.TABLE_1:
            ours.append(mean)
            theirs.append(paper.TABLE_1[cell])
    correlation = spearman(pd.Series(ours, dtype=float), pd.Series(theirs, dtype=float))
    return None if math.isnan(correlation) else correlation, len(ours)


def _judged(material: Material) -> list[Grid]:
    if material.rows.empty and not material.settings:
        raise BadData(f"{material.folder} holds neither results.csv nor study.json; name the folder of a study")
    return grids(material)


def drawable(rows: pd.DataFrame) -> list[str]:
    """The figures that there is something to draw for."""
    if figures.curves(rows).empty:
        return []
    costs = figures.costs_and_accuracy(rows)[["multiply_adds", "kwh"]] > 0
    return ["figure1", "figure2", *(["cost"] if costs.any(axis=None) else [])]


def _text(judged: list[Grid]) -> str:
    return "\n\n".join([*map(_section, judged), *_beside(judged)]) + "\n"


def _beside(judged: list[Grid]) -> list[str]:
    """Where several data sets judge: the order of techniques on each."""
    ranks = {grid.judge: mean_ranks(grid.rows) for grid in judged}
    techniques = [name for name in judged[0].techniques if any(name in of_judge for of_judge in ranks.values())]
    if len(judged) < 2 or len(techniques) < 2:
        return []
    numbers = [[ranks[grid.judge].get(name, math.nan) for grid in judged] for name in techniques]
    lines = [
        [_row_title(name), _kind(name, judged[0]), *(ABSENT if math.isnan(rank) else f"{rank:.2f}" for rank in row)]
        for name, row in zip(techniques, numbers, strict=True)
    ]
    words = (
        "Mean rank of each technique over the backbones that all of them have (1: the best), by the linear probe, "
        f"{CHOICES['chosen']}."
    )
    header = ["technique", "contrastive", *(markdown.escape(grid.judge) for grid in judged)]
    return ["# Techniques by data set", words, markdown.table(header, lines)]


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Technique or baseline x backbone -> the linear probe's accuracy at the chosen checkpoint, mean over seeds.

    Rows are those of one judge.
    """
    means = {cell: mean for cell, (mean, _) in _means(select(rows), "chosen").items()}
    return pd.Series(means, dtype=float).unstack() if means else pd.DataFrame()


def mean_ranks(rows: pd.DataFrame) -> dict[str, float]:
    """Technique -> its rank (1: the best; equals share theirs), mean over the backbones that all have.

    Rows are those of one judge.
    """
    grid = accuracies(rows)
    grid = grid[~grid.index.isin(BASELINES)]
    return grid.dropna(axis="columns").rank(ascending=False).mean(axis="columns").dropna().to_dict()


def _section(grid: Grid) -> str:
    parts = [f"# Accuracy on {markdown.escape(grid.judge)}" if grid.judge else "# Accuracy", caption(grid)]
    for choice, words in CHOICES.items():
        parts.append(f"## Linear probe, {words}")
        costs = column_costs(grid) if choice == "best" else []
        parts.append(_accuracy_table(grid, "linear", "accuracy", choice, costs))
        parts += _gap_list(grid) if choice == "best" else []
    for probe, metric in _other_metrics(grid.rows):
        parts += [f"## {_metric_title(probe, metric)}", _accuracy_table(grid, probe, metric, "last", [])]
    header, *lines = cell_costs(grid)
    if lines:
        named = [
            [_row_title(technique), markdown.escape(backbone), *numbers] for technique, backbone, *numbers in lines
        ]
        parts += ["## Cost of each cell, mean over its seeds", markdown.table(header, named)]
    parts += [f"![{name}{grid.suffix}]({name}{grid.suffix}.png)" for name in drawable(grid.rows)]
    return "\n\n".join([*parts, *_flags(grid.rows), *_agreement(grid.rows)])


def _gap_list(grid: Grid) -> list[str]:
    """What stands under the first table: which cells are not what they seem."""
    if not grid.gaps:
        return []
    return [
        f"{ABSENT} missing; † incomplete, of the seeds that went furthest:",
        markdown.items([str(gap) for gap in grid.gaps]),
    ]


def _metric_title(probe: str, metric: str) -> str:
    kind = metric.removeprefix("accuracy").strip("_").replace("_", " ")
    return markdown.escape(f"{PROBES.get(probe, probe)}{f', {kind}' if kind else ''}, last checkpoint")


def _flags(rows: pd.DataFrame) -> list[str]:
    lines = flag_lines(rows)
    return ["## Flags: cells whose figures say little", markdown.items(lines)] if lines else []


def _agreement(rows: pd.DataFrame) -> list[str]:
    correlation, cells = rank_agreement(rows)
    if cells < 10 or correlation is None:
        return []
    low, high = spearman_interval(correlation, cells)
    return [
        "## Beside the paper",
        f"Spearman's rank correlation with the paper's Table 1 over {cells} cells (highest test accuracy of all "
        f"checkpoints): {correlation:.2f}, 95 % interval {low:.2f} to {high:.2f} (Fisher's z, "
        "cells taken as independent). On data, sizes or lengths other than the paper's this compares the order of "
        "techniques and networks, not absolute values.",
    ]


def _accuracy_table(grid: Grid, probe: str, metric: str, choice: str, costs: list[list[str]]) -> str:
    """Techniques, then baselines, by backbones; below them lines of what the columns cost."""
    means = _means(select(grid.rows, probe=probe, metric=metric), choice)
    cells = _accuracy_cells(grid, means, is_accuracy=metric.startswith("accuracy"))
    lines = [
        [
            _row_title(technique),
            _kind(technique, grid),
            *(cells.get((technique, name), ABSENT) for name in grid.backbones),
        ]
        for technique in grid.techniques
    ]
    asked = {name for kind in grid.material.names("baselines") for name in (kind, f"{kind}_measured")}
    for baseline, title in BASELINE_ROWS.items():
        if (probe == "linear" and baseline in asked) or any(technique == baseline for technique, _ in means):
            columns = ["" if baseline == "pixels" else backbone for backbone in grid.backbones]
            lines.append([title, "", *(cells.get((baseline, backbone), ABSENT) for backbone in columns)])
    return markdown.table(["technique", "contrastive", *map(markdown.escape, grid.backbones)], lines + costs)


def _accuracy_cells(grid: Grid, means: Means, *, is_accuracy: bool) -> dict[tuple[str, str], str]:
    """The text of each cell: its margin beside it, the highest of a column bold, those with gaps marked."""
    shown = share if is_accuracy else short
    incomplete = {(gap.technique, gap.backbone) for gap in grid.gaps}
    highest: dict[str, str] = {}
    for (technique, backbone), (mean, _) in means.items():
        if technique in grid.techniques:
            highest[backbone] = max(highest.get(backbone, ""), shown(mean))
    cells = {}
    for (technique, backbone), (mean, half) in means.items():
        text = shown(mean) if half is None else f"{shown(mean)} ± {shown(half)}"
        # Which way is up is known of accuracies only.
        if is_accuracy and technique in grid.techniques and shown(mean) == highest[backbone]:
            text = f"**{text}**"
        cells[technique, backbone] = text + ("†" if (technique, backbone) in incomplete else "")
    return cells


def _means(selected: pd.DataFrame, choice: str) -> Means:
    present = selected.dropna(subset=choice)
    return {cell: interval(values) for cell, values in present.groupby(CELL[:2])[choice]}


def _other_metrics(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Further pairs of probe and metric worth a table: those that are neither per class nor for selection."""
    first = [("knn", "accuracy_euclidean"), ("knn", "accuracy_cosine"), ("finetune", "accuracy")]
    measured = {pair for pair in zip(rows.probe, rows.metric, strict=True) if not re.search("/|^held_out_", pair[1])}
    return [pair for pair in first if pair in measured] + sorted(measured - {*first, ("linear", "accuracy")})


def _row_title(technique: str) -> str:
    return spelt(technique) or BASELINE_ROWS.get(technique) or markdown.escape(technique)


def _kind(technique: str, grid: Grid) -> str:
    """Whether a technique is contrastive, as the paper or the study says."""
    kinds = grid.material.settings.get("contrastive")
    own = kinds.get(technique) if isinstance(kinds, dict) else None
    return paper.CONTRASTIVE.get(paper.technique(technique) or "") or (markdown.escape(str(own)) if own else ABSENT)
