"""Drawings of a study: accuracy against pretraining, and against what it cost.

Colours: Okabe and Ito, https://jfly.uni-koeln.de/color/; each also has a marker and a line of its own, for grey print.
"""

import io
import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullLocator

from lilliput.catalog import BASELINES
from lilliput.reports import paper
from lilliput.reports.words import share, spelt
from lilliput.studies.results import CELL
from lilliput.studies.statistics import interval, select
from lilliput.system.files import write_whole

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (2.5, 1.2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)))
WIDTH = 7.2  # inches: the two columns of a printed page
SMALL = 7.5  # points
DPI = 200
PIXELS: dict[str, Any] = {"color": "0.35", "linestyle": (0, (5, 2)), "linewidth": 0.8}
CHANCE: dict[str, Any] = {"color": "0.35", "linestyle": (0, (5, 1.5, 1, 1.5)), "linewidth": 0.8}
START: dict[str, Any] = {"color": "0.35", "linestyle": (0, (1, 1.6)), "linewidth": 0.9}  # or of the curve's colour


def curves(rows: pd.DataFrame, *, probe: str = "linear", metric: str = "accuracy") -> pd.DataFrame:
    """What the figures draw: for each technique, backbone and epoch, means over the seeds with their interval.

    At epoch 0 `start`: the own untrained network where that was judged, else the backbone's random start. After it
    `highest`: the highest accuracy of the checkpoints so far, which the start, no checkpoint, has no part in. `low` and
    `high` are of whichever of the two the line has. A seed that ended before the others keeps its highest accuracy:
    each curve is of the same seeds throughout.
    """
    rows = rows[(rows.probe == probe) & (rows.metric == metric)].dropna(subset="value")
    points = []
    for (technique, backbone), cell in rows[~rows.technique.isin(BASELINES)].groupby(CELL[:2], sort=False):
        name = (technique, backbone)
        untrained = rows[(rows.technique == "random_init") & (rows.backbone == backbone)]
        starts = [_start(run, untrained, seed) for seed, run in cell.groupby("seed")]
        if known := [start for start in starts if start is not None]:
            points.append((*name, 0, interval(known)[0], math.nan, *_around(known), len(known)))
        checkpoints = cell[cell.epoch > 0].groupby("seed")
        per_seed = pd.DataFrame({seed: run.set_index("epoch").value.sort_index().cummax() for seed, run in checkpoints})
        for epoch, values in per_seed.sort_index().ffill().dropna().iterrows():
            points.append((*name, epoch, math.nan, interval(values)[0], *_around(values), len(values)))
    columns = ["technique", "backbone", "epoch", "start", "highest", "low", "high", "seeds"]
    return pd.DataFrame(points, columns=columns)


def figure1(rows: pd.DataFrame) -> Figure:
    """One panel for each technique, a line for each backbone."""
    return _panels(rows, panel="technique", line="backbone")


def figure2(rows: pd.DataFrame) -> Figure:
    """One panel for each backbone, a line for each technique."""
    return _panels(rows, panel="backbone", line="technique")


def cost_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy at the last checkpoint against multiply-adds and energy, with the line that no cell beats on both."""
    cells = costs_and_accuracy(rows)
    techniques, backbones = _ordered(cells, "technique"), _ordered(cells, "backbone")
    styles = {(t, b): (colour_of(i), marker_of(j)) for i, t in enumerate(techniques) for j, b in enumerate(backbones)}
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    energy = ("pretraining energy (kWh)", 1.0) if cells.kwh.max() >= 0.1 else ("pretraining energy (Wh)", 1e-3)
    costs = {"multiply_adds": ("multiply-adds per image (millions)", 1e6), "kwh": energy}
    measured = [column for column in costs if (cells[column] > 0).any()]
    panels = list(figure.subplots(1, len(measured), sharey=True, squeeze=False).flat)
    panels[0].set_ylabel("linear accuracy, last checkpoint", fontsize=SMALL + 0.5)
    for axes, column in zip(panels, measured, strict=True):
        label, unit = costs[column]
        known = cells[cells[column] > 0]
        _cost_panel(axes, known.assign(cost=known[column] / unit), styles)
        axes.set_xlabel(label, fontsize=SMALL + 0.5)
    handles = _cost_handles(techniques, backbones)
    legend = figure.legend(handles=handles, loc="outside right center", fontsize=SMALL, frameon=False)
    literally(legend.get_texts())
    return figure


def _cost_panel(axes: Axes, points: pd.DataFrame, styles: dict[tuple[str, str], tuple[str, str]]) -> None:
    """A marker for each cell at its cost and accuracy, and the Pareto front below them."""
    edge = front(list(zip(points.cost, points.accuracy, strict=True)))
    axes.plot(*zip(*edge, strict=True), color="0.6", linewidth=0.9, drawstyle="steps-post", zorder=1)
    look: dict[str, Any] = {"markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": "none"}
    for cell in points.itertuples():
        colour, marker = styles[cell.technique, cell.backbone]
        axes.plot([cell.cost], [cell.accuracy], marker=marker, color=colour, **look)
    dress(axes)
    _plain_log(axes, list(points.cost))


def _cost_handles(techniques: Sequence[str], backbones: Sequence[str]) -> list[Line2D]:
    """Of the legend: colours are techniques, markers are backbones."""
    gap = Line2D([], [], linestyle="none", label=" ")
    colours = [
        Line2D([], [], color=colour_of(index), linewidth=4, label=label_of(name, technique=True))
        for index, name in enumerate(techniques)
    ]
    markers = [
        Line2D([], [], color="0.25", marker=marker_of(index), linestyle="none", label=label_of(name))
        for index, name in enumerate(backbones)
    ]
    return [*colours, gap, *markers, gap, Line2D([], [], color="0.6", linewidth=0.9, label="Pareto front")]


def costs_and_accuracy(rows: pd.DataFrame) -> pd.DataFrame:
    """For each technique and backbone, means over the seeds: accuracy at the last checkpoint, multiply-adds, kWh."""
    rows = rows[~rows.technique.isin(BASELINES)]
    costs = rows.groupby(CELL, sort=False)[["multiply_adds", "kwh"]].max().reset_index()
    cells = select(rows)[[*CELL, "last"]].merge(costs, on=CELL).rename(columns={"last": "accuracy"})
    return cells.groupby(CELL[:2], sort=False)[["accuracy", "multiply_adds", "kwh"]].mean().reset_index()


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy), those that no other point matches at less cost or beats at the same, by cost."""
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def save(figure: Figure, stem: Path, *, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write <stem>.png and <stem>.svg; the same figure gives the same bytes."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]
    for path in paths:
        write_whole(path, drawn(figure, path.suffix[1:]))
    return paths


def drawn(figure: Figure, kind: str) -> bytes:
    """The figure as a file of that kind. Its parts stay where the first drawing has put them, which takes longest."""
    file = io.BytesIO()
    # Letters as outlines: a reader's machine need not have our font.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "lilliput"}):
        figure.savefig(file, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else {})
    figure.set_layout_engine("none")
    return file.getvalue()


def _start(run: pd.DataFrame, untrained: pd.DataFrame, seed: object) -> float | None:
    """Of a seed before any training: its own, that of the same seed, or the mean of all there are."""
    for known in (run[run.epoch == 0], untrained[untrained.seed == seed], untrained):
        if len(known):
            return float(known.value.mean())
    return None


def _around(values: Iterable[float]) -> tuple[float, float]:
    mean, half = interval(values)
    return (math.nan, math.nan) if half is None else (mean - half, mean + half)


def _panels(rows: pd.DataFrame, *, panel: str, line: str) -> Figure:
    """Curves in a panel for each value of one column, coloured by another, with a legend where there is room."""
    points = curves(rows)
    panels, lines = _ordered(points, panel), _ordered(points, line)
    figure, grid = _grid_of_panels(len(panels), len(lines))
    filled, free = grid[: len(panels)], grid[len(panels) :]
    for axes, name in zip(filled, panels, strict=True):
        for index, other in enumerate(lines):
            _curve(axes, points[(points[panel] == name) & (points[line] == other)], index)
        title = label_of(name, technique=panel == "technique")
        axes.set_title(title, fontsize=SMALL + 1.5, loc="left", pad=4, parse_math=False)
        dress(axes)
    levels = _horizontals(filled, rows)
    _share_axes(grid, len(panels))
    figure.supxlabel("pretraining epochs", fontsize=SMALL + 1)
    figure.supylabel("highest linear accuracy so far", fontsize=SMALL + 1)
    labels = [label_of(name, technique=line == "technique") for name in lines]
    handles = [Line2D([], [], **_style(index), label=label) for index, label in enumerate(labels)]
    if points.start.notna().any():
        levels.append(Line2D([], [], **START, label="untrained (epoch 0)"))
    _legend(figure, free, handles + levels)
    return figure


def _grid_of_panels(panels: int, lines: int) -> tuple[Figure, list[Axes]]:
    """At most three across, which share their scales; more than `panels` where a row is not full."""
    across = _across(panels)
    down = math.ceil(panels / across)
    legend = 0 if panels % across else 0.2 * math.ceil((lines + 3) / 3)  # none where it fills a free panel
    size = (WIDTH if across > 1 else 4.5, 2.25 * down + 0.5 + legend)
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)


def _across(panels: int) -> int:
    return {1: 1, 2: 2, 4: 2}.get(panels, 3)


def _share_axes(grid: Sequence[Axes], panels: int) -> None:
    """One scale for all panels; its labels stand below the lowest panel of each column."""
    for axes in grid[max(0, panels - _across(panels)) : panels]:
        axes.tick_params(labelbottom=True)
    for axes in grid[panels:]:
        axes.set_axis_off()
    low, high = grid[0].get_ylim()
    grid[0].set_ylim(max(low, 0), min(high, 1))  # an interval of few seeds may promise more than there is
    grid[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    grid[0].yaxis.set_major_locator(_steps(grid[0]))


def _curve(axes: Axes, points: pd.DataFrame, index: int) -> None:
    """A line from the first checkpoint on; the start is a point at epoch 0, and level with it a dotted line."""
    if points.empty:
        return
    style = _style(index)
    name = f"{_drawable(points.technique.iloc[0])}|{_drawable(points.backbone.iloc[0])}"  # for whoever reads the figure
    reached, starts = points[points.highest.notna()], points[points.start.notna()]
    if len(reached):
        axes.plot(reached.epoch, reached.highest, **style, gid=name, markevery=math.ceil(len(reached) / 12))
    if reached.low.notna().any():
        axes.fill_between(reached.epoch, reached.low, reached.high, color=style["color"], alpha=0.15, linewidth=0)
    for start in starts.start:
        level = style | {"linestyle": START["linestyle"], "linewidth": START["linewidth"]}
        axes.plot([0, points.epoch.max()], [start, start], **level, gid=f"{name}|start", markevery=[0], zorder=1.5)


def _horizontals(panels: Sequence[Axes], rows: pd.DataFrame) -> list[Line2D]:
    """Draw what pixels and chance reach; returns their handles for the legend."""
    pixels = rows[(rows.technique == "pixels") & (rows.probe == "linear") & (rows.metric == "accuracy")].value.mean()
    classes = rows.metric[rows.metric.str.startswith("accuracy/")].nunique()
    handles = []
    for label, height, style in [
        ("linear probe on pixels", pixels, PIXELS),
        ("chance", 1 / classes if classes else math.nan, CHANCE),
    ]:
        if not math.isnan(height):
            for axes in panels:
                axes.axhline(height, **style, zorder=1)
            handles.append(Line2D([], [], **style, label=label))
    return handles


def _legend(figure: Figure, free: Sequence[Axes], handles: list[Line2D]) -> None:
    looks: dict[str, Any] = {"fontsize": SMALL, "frameon": False, "handlelength": 3.6}
    if len(free):
        legend = free[0].legend(handles=handles, loc="center", labelspacing=0.7, **looks)
    else:
        legend = figure.legend(handles=handles, loc="outside upper left", ncols=3, **looks)
    literally(legend.get_texts())


def _style(index: int) -> dict[str, Any]:
    return {
        "color": colour_of(index),
        "linestyle": DASHES[index % len(DASHES)],
        "marker": marker_of(index),
        "markersize": 3.6,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "linewidth": 1.3,
    }


def colour_of(index: int) -> str:
    """Of the line or point of this number."""
    return COLOURS[index % len(COLOURS)]


def marker_of(index: int) -> str:
    """Of the line or point of this number."""
    return MARKERS[index % len(MARKERS)]


def dress(axes: Axes) -> None:
    """The frame, grid and numbers of a panel of shares."""
    axes.tick_params(labelsize=SMALL, length=2.5, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value, 2)))


def _steps(axes: Axes) -> MultipleLocator:
    low, high = axes.get_ylim()
    return MultipleLocator(next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if (high - low) / step <= 7))


def _plain_log(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale with numbers as people write them, not powers of ten."""
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 1.4, max(values) * 1.4)
    spread = max(values) / min(values)
    steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if spread < 8 else (1.0, 2.0, 5.0) if spread < 100 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10f}".rstrip("0").rstrip(".")))
    axes.xaxis.set_minor_locator(NullLocator())


def _ordered(frame: pd.DataFrame, column: str) -> list[str]:
    return paper.in_order(frame[column], paper.TECHNIQUES if column == "technique" else paper.BACKBONES)


def label_of(name: str, *, technique: bool = False) -> str:
    """A name as a figure shows it: at most 30 letters, none that draws as a box, a technique as it is spelt."""
    text = _drawable((spelt(name) if technique else None) or name)
    # Matplotlib hides legend entries that begin with an underscore.
    return (" " if text.startswith("_") else "") + (text if len(text) <= 30 else f"{text[:29]}…")


def _drawable(text: str) -> str:
    # Control characters draw as boxes, and an SVG with one in it is no XML.
    return "".join(letter if unicodedata.category(letter)[0] != "C" else "?" for letter in text)


def literally(texts: Sequence[Text]) -> None:
    """Draw these texts as they are: a name may hold dollar signs."""
    for text in texts:
        text.set_parse_math(False)
