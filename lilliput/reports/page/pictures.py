"""What the networks look at, as figures: neighbours, saliency, mistakes, confusions, colour, layers, labels, maps.

Every function returns a matplotlib Figure; nothing is computed here that is not in what it is given.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from lilliput.data.store import Images
from lilliput.reports.figures import DPI, SMALL, WIDTH, colour_of, dress, label_of, literally, marker_of
from lilliput.reports.page.looks import Look, Sample
from lilliput.reports.words import share, signed

RIGHT, WRONG = "#009E73", "#D55E00"
MISTAKES, MISTAKES_ACROSS = 24, 8
CLASSES_WITH_NUMBERS, CLASSES_IN_LEGEND = 20, 30
CHANGES = {"hue": "half a turn of hue", "grey": "no colour", "swap": "red and blue exchanged"}
METHODS = {
    "gradient": "|gradient|",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated Gradients",
    "grad_cam": "Grad-CAM",
}


class Case(NamedTuple):
    """One of the sample's test images, whether it was told right, and a saliency map [H, W] by method."""

    row: int
    is_right: bool
    maps: dict[str, np.ndarray]


class Sheet:
    """A figure in inches from its upper left corner, with square images on it.

    All of them are pixels of one image as large as the figure: matplotlib takes its time for each that it is given.
    """

    def __init__(self, width: float, height: float, *, side: float):
        self.figure, self.side = Figure(figsize=(width, height)), side
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.pixels = np.zeros((round(height * DPI), round(width * DPI), 4), np.uint8)  # clear

    def image(self, x: float, y: float, images: Images, row: int, *, frame: str | None = None) -> None:
        self._put(x, y, enlarged(images.batch(np.array([row]))[0].permute(1, 2, 0).numpy(), self._pixels_a_side))
        if frame:
            self.axes.add_patch(Rectangle((x, y), self.side, self.side, fill=False, edgecolor=frame, linewidth=1.5))

    def overlay(self, x: float, y: float, images: Images, row: int, saliency_map: np.ndarray) -> None:
        """The image in grey, and over it the map."""
        self._put(x, y, overlaid(images, row, saliency_map, self._pixels_a_side))

    def finished(self) -> Figure:
        """The figure, when all is on it."""
        height, width = self.pixels.shape[:2]
        extent = (0, width / DPI, height / DPI, 0)
        self.axes.imshow(self.pixels, extent=extent, aspect="auto", interpolation="none", zorder=0)
        return self.figure

    def title(self, x: float, y: float, text: str, *, width: float, size: float) -> None:
        """Above what is at this place, over the middle of so many inches."""
        self.axes.text(x + width / 2, y - 0.04, text, ha="center", va="bottom", fontsize=size, parse_math=False)

    def row_name(self, x: float, y: float, name: str) -> None:
        """Left of the image at this place."""
        self.axes.text(x - 0.08, y + self.side / 2, name, ha="right", va="center", fontsize=SMALL, parse_math=False)

    @property
    def _pixels_a_side(self) -> int:
        return round(self.side * DPI)

    def _put(self, x: float, y: float, pixels: np.ndarray) -> None:
        down, across, side = round(y * DPI), round(x * DPI), self._pixels_a_side
        place = self.pixels[down : down + side, across : across + side]
        place[..., :3], place[..., 3] = pixels[: place.shape[0], : place.shape[1]].round(), 255


def overlaid(images: Images, row: int, saliency_map: np.ndarray, side: int) -> np.ndarray:
    """[side, side, 3] in 0..255: the image in grey, and over it the map [H, W], up to its highest hundredth."""
    grey = enlarged(images.batch(np.array([row]))[0].float().mean(0).numpy(), side)[..., None]
    top = np.quantile(saliency_map, 0.99) or 1.0
    strength = Image.fromarray(np.clip(saliency_map / top, 0, 1).astype(np.float32))
    strong = np.asarray(strength.resize(grey.shape[:2], Image.Resampling.BILINEAR))
    alpha = 0.15 + 0.75 * strong[..., None]
    return grey * (1 - alpha) + matplotlib.colormaps["inferno"](strong)[..., :3] * 255 * alpha


def enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    """[h, w, ...] -> [side, side, ...]: each place shows the pixel that it lies in."""
    rows, columns = (np.arange(side) * length // side for length in pixels.shape[:2])
    return pixels[rows[:, None], columns]


def neighbours(looks: Sequence[Look], names: Sequence[str], sample: Sample) -> Figure:
    """A row for every query, a group of columns for every look: the nearest images, framed right or wrong."""
    truth, classes = sample.test.labels, sample.test.classes
    each, step, left, top = looks[0].neighbours.shape[1], 0.36, 0.9, 0.3
    firsts = [left + step * (1.35 + group * (each + 0.35)) for group in range(len(looks))]  # the query, then gaps
    sheet = Sheet(firsts[-1] + step * each + 0.05, top + step * len(sample.queries) + 0.05, side=step - 0.035)
    for row, query in enumerate(sample.queries):
        y = top + step * row
        sheet.image(left, y, sample.test, query)
        sheet.row_name(left, y, classes[truth[query]])
        for first, look in zip(firsts, looks, strict=True):
            for place, near in enumerate(look.neighbours[row]):
                frame = RIGHT if sample.train.labels[near] == truth[query] else WRONG
                sheet.image(first + step * place, y, sample.train, near, frame=frame)
    sheet.title(left, top, "query", width=step, size=SMALL + 0.5)
    for first, name in zip(firsts, names, strict=True):
        sheet.title(first, top, name, width=step * each, size=SMALL + 0.5)
    return sheet.finished()


def saliency(cases: Sequence[Case], look: Look, sample: Sample) -> Figure:
    """A column for every case: the image, then what its own class's score hangs on, over it."""
    truth, classes = sample.test.labels, sample.test.classes
    methods, step, left, top = list(cases[0].maps), 0.62, 1.3, 0.5
    sheet = Sheet(left + step * len(cases), top + step * (1 + len(methods)) + 0.05, side=step - 0.04)
    for column, case in enumerate(cases):
        x = left + step * column
        sheet.image(x, top, sample.test, case.row, frame=RIGHT if case.is_right else WRONG)
        guess = look.scores[case.row].argmax()
        title = classes[truth[case.row]] + ("" if case.is_right else f"\nas {classes[guess]}")
        sheet.title(x, top, title, width=sheet.side, size=SMALL - 1)
        for down, method in enumerate(methods, 1):
            sheet.overlay(x, top + step * down, sample.test, case.row, case.maps[method])
    for down, name in enumerate(["image", *(METHODS[method] for method in methods)]):
        sheet.row_name(left, top + step * down, name)
    return sheet.finished()


def mistakes(look: Look, sample: Sample, rows: Sequence[int]) -> Figure:
    """The first of these test images: their class, and what they were taken for."""
    truth, classes = sample.test.labels, sample.test.classes
    rows = rows[:MISTAKES]
    step, above = WIDTH / MISTAKES_ACROSS, 0.3
    sheet = Sheet(WIDTH, max(1, -(-len(rows) // MISTAKES_ACROSS)) * (step + above), side=step - 0.06)
    for place, row in enumerate(rows):
        down, across = divmod(place, MISTAKES_ACROSS)
        x, y = step * across + 0.03, (step + above) * down + above
        sheet.image(x, y, sample.test, row)
        guess = look.scores[row].argmax()
        text = f"{classes[truth[row]]}\nas {classes[guess]} {look.scores[row, guess]:.2f}"
        sheet.title(x, y, text, width=sheet.side, size=SMALL - 1)
    return sheet.finished()


def surest_mistakes(look: Look, truth: np.ndarray) -> list[int]:
    """Rows that were told wrong, the surest first."""
    guess, chance = look.scores.argmax(1), look.scores.max(1)
    wrong = np.flatnonzero(guess != truth)
    return [int(row) for row in wrong[np.argsort(-chance[wrong], kind="stable")]]


def confusion(rows: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Rows of one probe at one checkpoint -> shares of every true class that were taken for each class."""
    shares = confusion_shares(rows, classes)
    side = min(WIDTH, 1.6 + 0.42 * len(classes))
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(0.5, shares.max()))
    names = [label_of(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", fontsize=SMALL)
    axes.set_yticks(range(len(classes)), names, fontsize=SMALL)
    literally([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set_xlabel("taken for", fontsize=SMALL + 1)
    axes.set_ylabel("class", fontsize=SMALL + 1)
    if len(classes) <= CLASSES_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(shares):
            colour, text = "white" if value > 0.3 else "0.25", share(value, 2) if value < 1 else "1"
            axes.text(column, row, text, ha="center", va="center", fontsize=SMALL - 1.5, color=colour)
    return figure


def confusion_shares(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """[C, C] shares, by true class and by guess, of rows `confusion/<true>/<guess>`."""
    counts = np.zeros((len(classes), len(classes)))
    places = {f"confusion/{true}/{guess}": (i, j) for i, true in enumerate(classes) for j, guess in enumerate(classes)}
    for row in rows[rows.metric.isin(places)].itertuples():
        counts[places[row.metric]] = row.value
    return counts / counts.sum(1, keepdims=True).clip(min=1)


def colour(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """What each change of colours costs, a point for each backbone with its 95 % interval, technique by technique."""
    metrics = {f"loss_{change}": name for change, name in CHANGES.items()}
    return _points(rows, techniques, backbones, metrics, "accuracy lost")


def on_object(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """How much more of the saliency is on the object than under the masks of other images of its class."""
    metrics = {f"on_object_own_gain_{method}": name for method, name in METHODS.items()}
    return _points(rows, techniques, backbones, metrics, "share on the object, above others' masks")


def layers(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """Linear accuracy of every stage, from the first to the last, a panel for each technique."""
    stages = rows[rows.metric.str.fullmatch(r"linear_stage_\d+")]
    stages = stages.assign(stage=stages.metric.str.removeprefix("linear_stage_").astype(int))
    figure, panels = _panels([name for name in techniques if name in set(rows.technique)])
    for technique, axes in panels.items():
        own = stages[stages.technique == technique]
        _lines(axes, own, "backbone", "stage", {name: label_of(name) for name in backbones})
        axes.set_title(label_of(technique, technique=True), fontsize=SMALL + 1, loc="left", parse_math=False)
        dress(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _accuracy_by(figure, "stage")
    return figure


def few_labels(rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str]) -> Figure:
    """Accuracy with 1 %, 10 % and all of the labels, a panel for each backbone."""
    accuracies = rows[rows.metric.str.fullmatch(r"accuracy_\d+_percent")]
    accuracies = accuracies.assign(percent=accuracies.metric.str.extract(r"(\d+)", expand=False).astype(float))
    figure, panels = _panels([name for name in backbones if name in set(rows.backbone)])
    for backbone, axes in panels.items():
        own = accuracies[accuracies.backbone == backbone]
        _lines(axes, own, "technique", "percent", {name: label_of(name, technique=True) for name in techniques})
        axes.set_xscale("log")
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.minorticks_off()
        axes.set_title(label_of(backbone), fontsize=SMALL + 1, loc="left", parse_math=False)
        dress(axes)
    _accuracy_by(figure, "labels used, per cent")
    return figure


def maps(names: Sequence[str], places: Sequence[np.ndarray], images: Images) -> Figure:
    """The images at their places [N, 2], coloured by class, a panel for each encoder's name."""
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(WIDTH, 2.3 * down + 0.5), layout="constrained")
    grid = _bare(figure.subplots(down, across, squeeze=False))
    colours = class_colours(len(images.classes))
    for axes, name, points in zip(grid.flat, names, places, strict=False):
        for number, label in enumerate(images.classes):
            own = points[images.labels == number]
            axes.scatter(*own.T, s=5, color=colours[number], label=label_of(label), linewidths=0)
        axes.set_title(name, fontsize=SMALL + 1, parse_math=False)
    if len(images.classes) <= CLASSES_IN_LEGEND:
        look: dict[str, Any] = {"loc": "outside lower center", "ncols": 5, "frameon": False, "markerscale": 2}
        legend = figure.legend(*grid[0, 0].get_legend_handles_labels(), fontsize=SMALL, **look)
        literally(legend.get_texts())
    return figure


def class_colours(count: int) -> list[str]:
    """So many colours that differ."""
    palette = matplotlib.colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "hsv"]
    steps = range(count) if count <= 20 else np.linspace(0, 0.95, count)
    return [to_hex(palette(step)) for step in steps]


def _points(
    rows: pd.DataFrame, techniques: Sequence[str], backbones: Sequence[str], metrics: dict[str, str], label: str
) -> Figure:
    """A panel for each metric and its title: around zero, a point for each backbone above each technique."""
    figure, panels = _panels([metric for metric in metrics if metric in set(rows.metric)], height=2.7)
    for metric, axes in panels.items():
        for number, backbone in enumerate(backbones):
            own = rows[rows.backbone == backbone]
            x = np.arange(len(techniques)) + (number - (len(backbones) - 1) / 2) * 0.13
            value = own[own.metric == metric].groupby("technique").value.mean().reindex(techniques)
            half = own[own.metric == f"{metric}_half"].groupby("technique").value.mean().reindex(techniques)
            style = _point_style(number)
            axes.errorbar(x, value, half, fmt="none", ecolor=style["color"], elinewidth=0.8)
            axes.plot(x, value, linestyle="none", label=label_of(backbone), **style)
        names = [label_of(name, technique=True) for name in techniques]
        axes.set_xticks(range(len(techniques)), names, rotation=35, ha="right")
        axes.set_title(metrics[metric], fontsize=SMALL + 1, loc="left")
        dress(axes)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value) if value else "0"))
        axes.axhline(0, color="0.4", linewidth=0.8)
    figure.axes[0].set_ylabel(label, fontsize=SMALL + 0.5)
    _legend_above(figure)
    return figure


def _panels(names: Sequence[str], height: float = 2.4) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each name, side by side, on one scale; an empty one where there is no name."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
    return figure, dict(zip(names, grid, strict=False))


def _lines(axes: Axes, rows: pd.DataFrame, by: str, x: str, labels: dict[str, str]) -> None:
    """The mean value at each x, a line for each of the values of `by` that have a label."""
    for number, (name, label) in enumerate(labels.items()):
        means = rows[rows[by] == name].groupby(x).value.mean()
        axes.plot(means.index, means.to_numpy(), linewidth=1.2, label=label, **_point_style(number))


def _point_style(number: int) -> dict[str, Any]:
    return {"color": colour_of(number), "marker": marker_of(number), "markersize": 3.6}


def _accuracy_by(figure: Figure, x: str) -> None:
    figure.axes[0].set_ylabel("linear accuracy", fontsize=SMALL + 0.5)
    figure.supxlabel(x, fontsize=SMALL + 0.5)
    _legend_above(figure)


def _legend_above(figure: Figure) -> None:
    """Of the first panel's lines, for all."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        look: dict[str, Any] = {"loc": "outside upper left", "ncols": 5, "fontsize": SMALL, "frameon": False}
        literally(figure.legend(handles, labels, **look).get_texts())


def _bare(grid: np.ndarray) -> np.ndarray:
    """The same panels, without frames and ticks."""
    for axes in grid.flat:
        axes.set_axis_off()
    return grid
