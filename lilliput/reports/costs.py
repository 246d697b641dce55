"""What a study cost, as lines of a table: of each column of the accuracies, and of each cell."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports import markdown
from lilliput.reports.grid import Grid
from lilliput.reports.words import ABSENT, count, short
from lilliput.studies.results import CELL
from lilliput.system.progress import duration

HIGHEST = ["parameters", "multiply_adds", "multiply_adds_224", "peak_memory_mib"]  # the same throughout a run
GROWING = ["seconds", "kwh", "grams_co2", "grams_co2_ml_impact"]  # with the epochs: at the last one


def mega(value: float) -> str:
    """Millions, so that a row of networks is in one unit."""
    return count(value, smallest_unit="M")


def usual(values: pd.Series) -> float:
    """The commonest of the techniques' values: Split-Brain holds two halves of a network, all others the whole."""
    return float(values.mode().iloc[0]) if values.value_counts().iloc[0] > 1 else float(values.iloc[0])


def total(values: pd.Series) -> float:
    """Their sum."""
    return float(values.sum())


class ColumnCost(NamedTuple):
    """A line below the accuracies; `{size}` in its title is that of the images in pretraining."""

    title: str
    column: str
    shown: Callable[[float], str]
    joined: Callable[[pd.Series], float]  # over techniques


COLUMN_COSTS = (
    ColumnCost("parameters", "parameters", mega, usual),
    ColumnCost("multiply-adds at {size}", "multiply_adds", mega, usual),
    ColumnCost("multiply-adds at 224 px", "multiply_adds_224", mega, usual),
    ColumnCost("pretraining, sum", "seconds", duration, total),
    ColumnCost("probing, sum", "probe_seconds", duration, total),
    ColumnCost("images/s, median", "images_per_s", short, pd.Series.median),
    ColumnCost("peak memory, MiB, highest", "peak_memory_mib", short, pd.Series.max),
    ColumnCost("kWh, sum", "kwh", short, total),
    ColumnCost("g CO2, sum, codecarbon", "grams_co2", short, total),
    ColumnCost("g CO2, sum, ML Impact formula", "grams_co2_ml_impact", short, total),
)
CELL_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", mega),
    "multiply_adds": ("multiply-adds", mega),
    "multiply_adds_224": ("at 224 px", mega),
    "seconds": ("pretraining", duration),
    "probe_seconds": ("probing", duration),
    "images_per_s": ("images/s", short),
    "peak_memory_mib": ("MiB", short),
    "kwh": ("kWh", short),
    "grams_co2": ("g CO2", short),
    "grams_co2_ml_impact": ("g CO2, ML Impact", short),
}


def column_costs(grid: Grid) -> list[list[str]]:
    """As in the paper: what each backbone's column cost, over all techniques; Markdown."""
    costs = _costs(grid.rows)
    costs = costs[~costs.technique.isin(BASELINES)]
    size = f"{markdown.escape(grid.image_size)} px" if grid.image_size else "the training size"
    return [
        [cost.title.format(size=size), "", *(_column_cost(grid, costs, backbone, cost) for backbone in grid.backbones)]
        for cost in COLUMN_COSTS
    ]


def cell_costs(grid: Grid) -> list[list[str]]:
    """A header, then a line for each cell that was measured: technique, backbone, and its costs; means over seeds."""
    costs = _costs(grid.rows)
    lines = [["technique", "backbone", *(title for title, _ in CELL_COSTS.values())]]
    for technique in [*grid.techniques, "supervised"]:
        for backbone in grid.backbones:
            for _, cost in costs[(costs.technique == technique) & (costs.backbone == backbone)].iterrows():
                texts = (_shown(cost[column], shown) for column, (_, shown) in CELL_COSTS.items())
                lines.append([technique, backbone, *texts])
    return lines


def _column_cost(grid: Grid, costs: pd.DataFrame, backbone: str, cost: ColumnCost) -> str:
    values = costs[costs.backbone == backbone].set_index("technique")[cost.column].dropna()
    text = cost.shown(cost.joined(values)) if len(values) else ABSENT
    # A sum of four techniques must not be read as that of five.
    partial = cost.joined is total and 0 < len(values) < len(grid.techniques)
    return f"{text} ({len(values)} of {len(grid.techniques)})" if partial else text


def _shown(value: float, shown: Callable[[float], str]) -> str:
    return ABSENT if math.isnan(value) else shown(value)


def _costs(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each technique and backbone, means over its seeds."""
    ends = rows.sort_values("epoch", kind="stable").drop_duplicates(CELL, keep="last")  # NaN there is not 0 before
    costs = rows.groupby(CELL)[HIGHEST].max().join(ends.set_index(CELL)[GROWING])
    costs = costs.join(rows.groupby(CELL).images_per_s.median())
    # Every metric of a probe repeats the time of that probe on that checkpoint.
    probing = rows.groupby([*CELL, "epoch", "probe"]).probe_seconds.max().groupby(CELL).sum(min_count=1)
    return costs.join(probing).groupby(CELL[:2]).mean().reset_index()
