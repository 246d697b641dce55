"""The images of a folder that are nearest to one image, by the cosine of an encoder's features."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lilliput.errors import BadData
from lilliput.gallery.index import Index, read_image
from lilliput.gallery.lens import Lens
from lilliput.images.decode import decode, quietly
from lilliput.reports.figures import SMALL, drawn
from lilliput.reports.style import own_style
from lilliput.system.files import write_whole
from lilliput.system.records import write_json
from lilliput.system.visible import visible

ACROSS, INCHES, PIXELS = 7, 1.2, 160  # of the picture: images in a row, their side, and pixels of it
LETTERS = 22  # of a name below an image


class Neighbour(NamedTuple):
    file: str  # below the index's root
    distance: float  # 1 - cosine, 0..2


def look_at(image: str | os.PathLike, lens: Lens) -> np.ndarray:
    """The features [dim] of the image in a file; BadData where it cannot be read."""
    with quietly():
        read = read_image(Path(image), lens.image_size)
    if isinstance(read, str):
        raise BadData(f"{image} cannot be read: {read}")
    return lens.features(np.array(read[0][None]))[0]


def neighbours(features: np.ndarray, index: Index, count: int) -> list[Neighbour]:
    """The nearest images, the nearest first; of equal ones in the order of their names. The image itself is one, where
    it lies in the folder."""
    query = features.astype(np.float64)
    cosines = []
    for block in index.blocks():
        lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(query)
        cosines.append(block @ query / np.maximum(lengths, 1e-12))
    distances = 1 - np.concatenate(cosines).clip(-1, 1)
    rows = np.argsort(distances, kind="stable")[:count]
    names = index.names
    return [Neighbour(names[row], round(float(distances[row]), 6)) for row in rows]


def write_search(image: Path, index: Index, found: Sequence[Neighbour], run: str, out: Path) -> list[Path]:
    """The picture at `out` and its figures beside it, as JSON; returns both."""
    out.parent.mkdir(parents=True, exist_ok=True)
    paths = [out, out.with_suffix(".json")]
    content: dict[str, Any] = {"image": str(image), "folder": str(index.root), "run": run, "images": len(index)}
    write_json(paths[1], {**content, "neighbours": [near._asdict() for near in found]})
    write_whole(out, _picture(image, index.root, found))
    return paths


@own_style()
def _picture(image: Path, root: Path, found: Sequence[Neighbour]) -> bytes:
    """A PNG: the image, then its nearest, with their distances and names."""
    down = -(-(1 + len(found)) // ACROSS)
    figure = Figure(figsize=(INCHES * ACROSS, (INCHES + 0.45) * down), layout="constrained")
    grid = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    _shown(grid[0], image, "searched for")
    for axes, near in zip(grid[1:], found, strict=False):
        _shown(axes, root / near.file, f"{near.distance:.3f}")
    return drawn(figure, "png")


def _shown(axes: Axes, path: Path, title: str) -> None:
    axes.imshow(decode(path, PIXELS).transpose(1, 2, 0))
    axes.set_title(title, fontsize=SMALL, pad=2)
    name = visible(path.name)
    short = name if len(name) <= LETTERS else f"{name[: LETTERS - 9]}…{name[-8:]}"
    axes.text(
        0.5, -0.03, short, fontsize=SMALL - 1.5, ha="center", va="top", transform=axes.transAxes, parse_math=False
    )
