"""Drawings of a study: accuracy against pretraining, and against what it cost.

Colours: Okabe and Ito, https://jfly.uni-koeln.de/color/; each also has a marker and a line of its own, for grey print.
"""

import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullLocator

from lilliput.reports import paper
from lilliput.studies.results import BASELINES, CELL
from lilliput.studies.statistics import interval, select
from lilliput.system.files import write_whole

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (2.5, 1.2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)))
_WIDTH = 7.2  # inches: the two columns of a printed page
_SMALL = 7.5  # points
_PIXELS: dict[str, Any] = {"color": "0.35", "linestyle": (0, (5, 2)), "linewidth": 0.8}
_CHANCE: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 0.9}


def curves(rows: pd.DataFrame, *, probe: str = "linear", metric: str = "accuracy") -> pd.DataFrame:
    """What the figures draw: for each technique, backbone and epoch the highest accuracy so far, over the seeds.

    A curve starts from its own untrained network where that was judged, else from the backbone's random start. A seed
    that ended before the others keeps its highest accuracy: each curve is of the same seeds throughout.
    """
    rows = rows[(rows.probe == probe) & (rows.metric == metric)].dropna(subset="value")
    points = []
    for (technique, backbone), cell in rows[~rows.technique.isin(BASELINES)].groupby(CELL[:2], sort=False):
        start = rows[(rows.technique == "random_init") & (rows.backbone == backbone)]
        per_seed = pd.DataFrame({seed: _so_far(run, start, seed) for seed, run in cell.groupby("seed")})
        for epoch, values in per_seed.sort_index().ffill().dropna().iterrows():
            mean, half = interval(values)
            margin = math.nan if half is None else half
            points.append((technique, backbone, epoch, mean, mean - margin, mean + margin, len(values)))
    return pd.DataFrame(points, columns=["technique", "backbone", "epoch", "accuracy", "low", "high", "seeds"])


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
    figure = Figure(figsize=(_WIDTH, 3.5), layout="constrained")
    energy = ("pretraining energy (kWh)", 1.0) if cells.kwh.max() >= 0.1 else ("pretraining energy (Wh)", 1e-3)
    quantities = [("multiply_adds", "multiply-adds per image (millions)", 1e6), ("kwh", *energy)]
    drawn = [one for one in quantities if (cells[one[0]] > 0).any()]
    panels = list(figure.subplots(1, len(drawn), sharey=True, squeeze=False).flat)
    panels[0].set_ylabel("linear accuracy, last checkpoint", fontsize=_SMALL + 0.5)
    for axes, (column, label, unit) in zip(panels, drawn, strict=True):
        known = cells[cells[column] > 0]
        edge = front(list(zip(known[column] / unit, known.accuracy, strict=True)))
        axes.plot(*zip(*edge, strict=True), color="0.6", linewidth=0.9, drawstyle="steps-post", zorder=1)
        for cell in known.itertuples():
            colour = COLOURS[techniques.index(cell.technique) % len(COLOURS)]
            marker = MARKERS[backbones.index(cell.backbone) % len(MARKERS)]
            x, y = getattr(cell, column) / unit, cell.accuracy
            axes.plot(
                [x],
                [y],
                marker=marker,
                color=colour,
                markersize=6.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                linestyle="none",
            )
        dress(axes)
        _plain_log(axes, [x / unit for x in known[column]])
        axes.set_xlabel(label, fontsize=_SMALL + 0.5)
    gap = Line2D([], [], linestyle="none", label=" ")
    handles = [
        *(
            Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=4, label=shown(name, technique=True))
            for i, name in enumerate(techniques)
        ),
        gap,
        *(
            Line2D([], [], color="0.25", marker=MARKERS[i % len(MARKERS)], linestyle="none", label=shown(name))
            for i, name in enumerate(backbones)
        ),
        gap,
        Line2D([], [], color="0.6", linewidth=0.9, label="Pareto front"),
    ]
    legend = figure.legend(handles=handles, loc="outside right center", fontsize=_SMALL, frameon=False)
    literally(legend.get_texts())
    return figure


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


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write <stem>.png and <stem>.svg; the same figure gives the same bytes."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for path in paths:
        drawn = io.BytesIO()
        # Letters as outlines: a reader's machine need not have our font.
        with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "lilliput"}):
            when = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(drawn, format=path.suffix[1:], dpi=200, metadata=when)
        write_whole(path, drawn.getvalue())
    return paths


def _so_far(run: pd.DataFrame, start: pd.DataFrame, seed: object) -> pd.Series:
    values = run.set_index("epoch").value
    if 0 not in values.index and len(start):
        same = start[start.seed == seed]
        values.loc[0] = (same if len(same) else start).value.mean()
    return values.sort_index().cummax()


def _panels(rows: pd.DataFrame, *, panel: str, line: str) -> Figure:
    drawn = curves(rows)
    panels, lines = _ordered(drawn, panel), _ordered(drawn, line)
    across = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    down = math.ceil(len(panels) / across)
    legend = 0 if len(panels) % across else 0.2 * math.ceil((len(lines) + 2) / 3)  # none where it fills a free panel
    size = (_WIDTH if across > 1 else 4.5, 2.25 * down + 0.5 + legend)
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name in zip(grid, panels, strict=False):
        for index, other in enumerate(lines):
            _curve(axes, drawn[(drawn[panel] == name) & (drawn[line] == other)], index)
        _title(axes, shown(name, technique=panel == "technique"))
        dress(axes)
    known = _horizontals(grid[: len(panels)], rows)
    # All panels share one scale, so the last tick label of each column stands under its lowest panel.
    for axes in grid[max(0, len(panels) - across) : len(panels)]:
        axes.tick_params(labelbottom=True)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    low, high = grid[0].get_ylim()
    grid[0].set_ylim(max(low, 0), min(high, 1))  # an interval of few seeds may promise more than there is
    grid[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    grid[0].yaxis.set_major_locator(_steps(grid[0]))
    figure.supxlabel("pretraining epochs", fontsize=_SMALL + 1)
    figure.supylabel("maximum linear accuracy so far", fontsize=_SMALL + 1)
    handles = [
        Line2D([], [], **_style(i), label=shown(name, technique=line == "technique")) for i, name in enumerate(lines)
    ]
    _legend(figure, grid[len(panels) :], handles + known)
    return figure


def _curve(axes: Axes, points: pd.DataFrame, index: int) -> None:
    if points.empty:
        return
    style = _style(index)
    name = f"{_visible(points.technique.iloc[0])}|{_visible(points.backbone.iloc[0])}"  # for whoever reads the figure
    axes.plot(points.epoch, points.accuracy, **style, gid=name, markevery=math.ceil(len(points) / 12))
    if points.low.notna().any():
        axes.fill_between(points.epoch, points.low, points.high, color=style["color"], alpha=0.15, linewidth=0)


def _horizontals(panels: Sequence[Axes], rows: pd.DataFrame) -> list[Line2D]:
    """Draw what pixels and chance reach; returns their handles for the legend."""
    pixels = rows[(rows.technique == "pixels") & (rows.probe == "linear") & (rows.metric == "accuracy")].value.mean()
    classes = rows.metric[rows.metric.str.startswith("accuracy/")].nunique()
    handles = []
    for label, height, style in [
        ("linear probe on pixels", pixels, _PIXELS),
        ("chance", 1 / classes if classes else math.nan, _CHANCE),
    ]:
        if not math.isnan(height):
            for axes in panels:
                axes.axhline(height, **style, zorder=1)
            handles.append(Line2D([], [], **style, label=label))
    return handles


def _legend(figure: Figure, free: Sequence[Axes], handles: list[Line2D]) -> None:
    looks: dict[str, Any] = {"fontsize": _SMALL, "frameon": False, "handlelength": 3.6}
    if len(free):
        legend = free[0].legend(handles=handles, loc="center", labelspacing=0.7, **looks)
    else:
        legend = figure.legend(handles=handles, loc="outside upper left", ncols=3, **looks)
    literally(legend.get_texts())


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 3.6,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "linewidth": 1.3,
    }


def dress(axes: Axes) -> None:
    axes.tick_params(labelsize=_SMALL, length=2.5, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2f}".removeprefix("0")))


def _title(axes: Axes, name: str) -> None:
    axes.set_title(name, fontsize=_SMALL + 1.5, loc="left", pad=4, parse_math=False)


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


def shown(name: str, *, technique: bool = False) -> str:
    title = (paper.technique(name) if technique else None) or name
    text = _visible(title)
    # Matplotlib hides legend entries that begin with an underscore.
    return (" " if text.startswith("_") else "") + (text if len(text) <= 30 else f"{text[:29]}…")


def _visible(text: str) -> str:
    # Control characters draw as boxes, and an SVG with one in it is no XML.
    return "".join(letter if unicodedata.category(letter)[0] != "C" else "?" for letter in text)


def literally(texts: Sequence[Any]) -> None:
    for text in texts:
        text.set_parse_math(False)  # a name may hold dollar signs
