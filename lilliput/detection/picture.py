"""Boxes on test images: what is there above what a detector found."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lilliput.detection.boxes import BoxedImages
from lilliput.reports.figures import COLOURS, SMALL, drawn
from lilliput.reports.style import own_style

SURE = 0.4  # score from which a box is drawn
INCHES = 1.5  # the longer side of an image


@own_style()
def draw(
    images: BoxedImages, found: Sequence[dict[str, Tensor]], rows: Sequence[int] | np.ndarray, title: str
) -> bytes:
    """A PNG: of each image in `rows` its own boxes, and below those of `found`, which has an entry for each of them."""
    figure = Figure(figsize=(INCHES * len(rows), 2 * INCHES + 0.5), layout="constrained")
    grid = figure.subplots(2, len(rows), squeeze=False)
    for place, (row, boxes) in enumerate(zip(rows, found, strict=True)):
        truth = [(box, images.classes[label - 1], 1.0) for box, label in _counting(images, int(row))]
        sure = boxes["scores"] >= SURE
        guesses = zip(*(boxes[name][sure].tolist() for name in ("boxes", "labels", "scores")), strict=True)
        _image(grid[0, place], images, int(row), truth, told=False)
        _image(
            grid[1, place],
            images,
            int(row),
            [(box, images.classes[label - 1], score) for box, label, score in guesses],
            told=True,
        )
    for axes, name in zip(grid[:, 0], ("there", f"found, from {SURE} on"), strict=True):
        axes.text(-0.06, 0.5, name, rotation=90, ha="right", va="center", transform=axes.transAxes, fontsize=SMALL)
    figure.suptitle(title, fontsize=SMALL + 1, parse_math=False)
    return drawn(figure, "png")


def _counting(images: BoxedImages, row: int) -> list[tuple[list[float], int]]:
    kept = ~images.aside[row]
    return list(zip(images.boxes[row][kept].tolist(), images.labels[row][kept].tolist(), strict=True))


def _image(
    axes: Axes, images: BoxedImages, row: int, boxes: list[tuple[list[float], str, float]], *, told: bool
) -> None:
    """An image in its own shape, and boxes (corners, class, score) on it."""
    side, (width, height) = images.image_size, images.sizes[row]
    axes.imshow(images.pixels[row].permute(1, 2, 0).numpy(), aspect=height / width)
    axes.set_axis_off()
    for (left, top, right, bottom), name, score in boxes:
        colour = COLOURS[images.classes.index(name) % len(COLOURS)]
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
        text = f"{name} {score:.2f}" if told else name
        box = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        axes.text(
            left, top, text, fontsize=SMALL - 3, color="white", va="bottom", bbox=box, clip_on=True, parse_math=False
        )
    axes.set_xlim(0, side)
    axes.set_ylim(side, 0)
