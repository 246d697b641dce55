"""What the networks look at, as figures: neighbours, saliency, mistakes, confusions, colour, layers, labels, maps.

Every function returns a matplotlib Figure; nothing is computed here that is not in what it is given.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lilliput.reports import paper
from lilliput.reports.figures import COLOURS, MARKERS, dress, literally, shown
from lilliput.reports.page.looks import Look, Sample

SMALL = 7.5  # points
RIGHT, WRONG = "#009E73", "#D55E00"
CHANGES = {"hue": "half a turn of hue", "grey": "no colour", "swap": "red and blue exchanged"}
METHODS = {
    "gradient": "|gradient|",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated Gradients",
    "grad_cam": "Grad-CAM",
}


def neighbours(looks: Sequence[Look], names: Sequence[str], sample: Sample) -> Figure:
    """A row for every query, a group of columns for every look: the nearest images, framed right or wrong."""
    labels, truth = sample.train.labels, sample.test.labels
    across, down = len(looks), len(sample.queries)
    each = looks[0].neighbours.shape[1]
    widths = [1.0] + ([0.35] + [1.0] * each) * across
    figure = Figure(figsize=(0.36 * sum(widths) + 0.9, 0.40 * down + 0.5))
    grid = figure.subplots(down, len(widths), gridspec_kw={"width_ratios": widths, "wspace": 0.06, "hspace": 0.06})
    for axes in grid.flat:
        axes.set_axis_off()
    for row, query in enumerate(sample.queries):
        _image(grid[row, 0], sample.test, query)
        name = _classes(sample)[truth[query]]
        grid[row, 0].text(-0.2, 0.5, name, transform=grid[row, 0].transAxes, ha="right", va="center", fontsize=SMALL)
        for group, look in enumerate(looks):
            for place, near in enumerate(look.neighbours[row]):
                axes = grid[row, 2 + group * (each + 1) + place]
                _image(axes, sample.train, near, frame=RIGHT if labels[near] == truth[query] else WRONG)
    for group, name in enumerate(names):
        axes = grid[0, 2 + group * (each + 1) + each // 2]
        axes.set_title(name, fontsize=SMALL + 0.5, pad=5, parse_math=False)
    grid[0, 0].set_title("query", fontsize=SMALL + 0.5, pad=5)
    figure.subplots_adjust(
        left=0.9 / figure.get_figwidth(), right=0.995, top=1 - 0.3 / figure.get_figheight(), bottom=0.01
    )
    return figure


def saliency(cases: Sequence[tuple[int, bool, dict[str, np.ndarray]]], look: Look, sample: Sample) -> Figure:
    """A column for every case (row of the sample's test images, told right or not, a map by method): the image, then
    what its own class's score hangs on, over it."""
    truth, classes = sample.test.labels, _classes(sample)
    methods = list(cases[0][2])
    figure = Figure(figsize=(0.62 * len(cases) + 1.1, 0.62 * (1 + len(methods)) + 0.75))
    grid = figure.subplots(1 + len(methods), len(cases), gridspec_kw={"wspace": 0.05, "hspace": 0.05}, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for column, (row, right, maps) in enumerate(cases):
        _image(grid[0, column], sample.test, row, frame=RIGHT if right else WRONG)
        guess = look.scores[row].argmax()
        title = classes[truth[row]] + ("" if right else f"\nas {classes[guess]}")
        grid[0, column].set_title(title, fontsize=SMALL - 1, pad=3, parse_math=False)
        for line, method in enumerate(methods, start=1):
            _overlay(grid[line, column], sample.test, row, maps[method])
    for line, name in enumerate(["image", *(METHODS[method] for method in methods)]):
        grid[line, 0].text(
            -0.12, 0.5, name, transform=grid[line, 0].transAxes, ha="right", va="center", fontsize=SMALL
        )  # fmt: skip
    figure.subplots_adjust(
        left=1.1 / figure.get_figwidth(), right=0.995, top=1 - 0.5 / figure.get_figheight(), bottom=0.01
    )
    return figure


def mistakes(look: Look, sample: Sample, *, rows: Sequence[int] | None = None, most: int = 24) -> Figure:
    """The surest mistakes: images, their class, and what they were taken for; or those rows, in their order."""
    truth, classes = sample.test.labels, _classes(sample)
    picked = surest_mistakes(look, truth)[:most] if rows is None else list(rows)[:most]
    across = 8
    down = max(1, -(-len(picked) // across))
    figure = Figure(figsize=(7.2, 1.12 * down + 0.1), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, picked, strict=False):
        _image(axes, sample.test, row)
        guess = look.scores[row].argmax()
        text = f"{classes[truth[row]]}\nas {classes[guess]} {look.scores[row, guess]:.2f}"
        axes.set_title(text, fontsize=SMALL - 1, pad=2, parse_math=False)
    return figure


def surest_mistakes(look: Look, truth: np.ndarray) -> list[int]:
    """Rows that were told wrong, the surest first."""
    guess, chance = look.scores.argmax(1), look.scores.max(1)
    wrong = np.flatnonzero(guess != truth)
    return [int(row) for row in wrong[np.argsort(-chance[wrong], kind="stable")]]


def confusion(rows: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Rows of one probe at one checkpoint -> shares of every true class that were taken for each class."""
    counts = confusion_counts(rows, classes)
    share = counts / counts.sum(1, keepdims=True).clip(min=1)
    side = min(7.2, 1.6 + 0.42 * len(classes))
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=max(0.5, share.max()))
    names = [_visible(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", fontsize=SMALL)
    axes.set_yticks(range(len(classes)), names, fontsize=SMALL)
    literally([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set_xlabel("taken for", fontsize=SMALL + 1)
    axes.set_ylabel("class", fontsize=SMALL + 1)
    if len(classes) <= 20:
        for (row, column), value in np.ndenumerate(share):
            colour = "white" if value > 0.3 else "0.25"
            axes.text(
                column,
                row,
                f"{value:.2f}"[1:] if value < 1 else "1",
                ha="center",
                va="center",
                fontsize=SMALL - 1.5,
                color=colour,
            )
    return figure


def confusion_counts(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """[C, C] counts, by true class and by guess, of rows `confusion/<true>/<guess>`."""
    counts = np.zeros((len(classes), len(classes)))
    known = {f"confusion/{true}/{guess}": (i, j) for i, true in enumerate(classes) for j, guess in enumerate(classes)}
    for row in rows[rows.metric.isin(known)].itertuples():
        counts[known[row.metric]] = row.value
    return counts


def colour(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """What each change of colours costs, a point for each backbone with its 95 % interval, technique by technique."""
    return _points(
        rows, techniques, backbones, {f"loss_{key}": name for key, name in CHANGES.items()}, "accuracy lost", zero=True
    )  # fmt: skip


def on_object(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """How much more of the saliency is on the object than chance would put there."""
    metrics = {f"on_object_gain_{key}": name for key, name in METHODS.items()}
    return _points(rows, techniques, backbones, metrics, "share on the object, above chance", zero=True)


def layers(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """Linear accuracy of every stage, from the first to the last, a panel for each technique."""
    panels = [one for one in techniques if one in set(rows.technique)]
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    grid = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
    stages = rows[rows.metric.str.fullmatch(r"linear_stage_\d+")]
    stages = stages.assign(stage=stages.metric.str.removeprefix("linear_stage_").astype(int))
    for axes, technique in zip(grid, panels, strict=False):
        for number, backbone in enumerate(backbones):
            own = stages[(stages.technique == technique) & (stages.backbone == backbone)]
            means = own.groupby("stage").value.mean()
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot(means.index, means.to_numpy(), markersize=3.6, linewidth=1.2, label=shown(backbone), **style)
        axes.set_title(shown(technique, technique=True), fontsize=SMALL + 1, loc="left", parse_math=False)
        dress(axes)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    grid[0].set_ylabel("linear accuracy", fontsize=SMALL + 0.5)
    figure.supxlabel("stage", fontsize=SMALL + 0.5)
    _legend_below(figure, grid[0])
    return figure


def few_labels(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """Accuracy with 1 %, 10 % and all of the labels, a panel for each backbone."""
    panels = [one for one in backbones if one in set(rows.backbone)]
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    grid = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
    known = rows[rows.metric.str.fullmatch(r"accuracy_\d+_percent")]
    known = known.assign(percent=known.metric.str.extract(r"(\d+)", expand=False).astype(float))
    for axes, backbone in zip(grid, panels, strict=False):
        for number, technique in enumerate(techniques):
            own = known[(known.technique == technique) & (known.backbone == backbone)]
            means = own.groupby("percent").value.mean()
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            label = shown(technique, technique=True)
            axes.plot(means.index, means.to_numpy(), markersize=3.6, linewidth=1.2, label=label, **style)
        axes.set_xscale("log")
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.minorticks_off()
        axes.set_title(shown(backbone), fontsize=SMALL + 1, loc="left", parse_math=False)
        dress(axes)
    grid[0].set_ylabel("linear accuracy", fontsize=SMALL + 0.5)
    figure.supxlabel("labels used, per cent", fontsize=SMALL + 0.5)
    _legend_below(figure, grid[0])
    return figure


def maps(looks: Sequence[Look], names: Sequence[str], places: Sequence[np.ndarray], sample: Sample) -> Figure:
    """The test images in two dimensions, coloured by class, a panel for each look."""
    truth, classes = sample.test.labels, _classes(sample)
    across = min(3, len(looks))
    down = -(-len(looks) // across)
    figure = Figure(figsize=(7.2, 2.3 * down + 0.5), layout="constrained")
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    colours = class_colours(len(classes))
    for axes in grid:
        axes.set_axis_off()
    for axes, name, place in zip(grid, names, places, strict=False):
        for number, label in enumerate(classes):
            own = truth == number
            axes.scatter(*place[own].T, s=5, color=colours[number], label=_visible(label), linewidths=0)
        axes.set_title(name, fontsize=SMALL + 1, parse_math=False)
    if len(classes) <= 30:
        legend = figure.legend(
            *grid[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=5,
            fontsize=SMALL,
            frameon=False,
            markerscale=2,
        )
        literally(legend.get_texts())
    return figure


def class_colours(count: int) -> list[str]:
    """So many colours that differ."""
    palette = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "hsv"]
    steps = range(count) if count <= 20 else np.linspace(0, 0.95, count)
    return [matplotlib.colors.to_hex(palette(step)) for step in steps]


def _points(rows, techniques, backbones, metrics: dict[str, str], label: str, *, zero: bool) -> Figure:
    known = [(metric, name) for metric, name in metrics.items() if metric in set(rows.metric)]
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    grid = figure.subplots(1, max(1, len(known)), sharey=True, squeeze=False)[0]
    for axes, (metric, name) in zip(grid, known, strict=False):
        for number, backbone in enumerate(backbones):
            own = rows[rows.backbone == backbone]
            value = own[own.metric == metric].groupby("technique").value.mean().reindex(techniques)
            half = own[own.metric == f"{metric}_half"].groupby("technique").value.mean().reindex(techniques)
            x = np.arange(len(techniques)) + (number - (len(backbones) - 1) / 2) * 0.13
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.errorbar(x, value, half, fmt="none", ecolor=style["color"], elinewidth=0.8)
            axes.plot(x, value, linestyle="none", markersize=3.6, label=shown(backbone), **style)
        names = [shown(one, technique=True) for one in techniques]
        axes.set_xticks(range(len(techniques)), names, rotation=35, ha="right")
        axes.set_title(name, fontsize=SMALL + 1, loc="left")
        dress(axes)
        axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:+.2f}" if v else "0"))
        if zero:
            axes.axhline(0, color="0.4", linewidth=0.8)
    grid[0].set_ylabel(label, fontsize=SMALL + 0.5)
    _legend_below(figure, grid[0])
    return figure


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        where: dict[str, Any] = {"loc": "outside upper left", "ncols": 5, "fontsize": SMALL, "frameon": False}
        literally(figure.legend(handles, labels, **where).get_texts())


def _image(axes: Axes, store: Any, row: int, *, frame: str | None = None) -> None:
    axes.imshow(store.batch(np.array([row]))[0].permute(1, 2, 0).numpy(), interpolation="nearest")
    if frame:
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=frame, linewidth=1.8, visible=True)


def _overlay(axes: Axes, store: Any, row: int, values: np.ndarray) -> None:
    grey = store.batch(np.array([row]))[0].float().mean(0).numpy()
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    top = np.quantile(values, 0.99) or 1.0
    strength = np.clip(values / top, 0, 1)
    axes.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.75 * strength, interpolation="bilinear")


def _classes(sample: Sample) -> list[str]:
    return sample.test.classes


def _visible(text: str) -> str:
    return shown(text)


def name_of(technique: str) -> str:
    """As the paper spells it, where it has it."""
    return paper.technique(technique) or technique
