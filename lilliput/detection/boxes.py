"""A user's folder of images with boxes: found, read, split, and loaded at one size."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lilliput.data.filling import in_parallel, reason_of
from lilliput.data.tree import existing_folder, layout_of
from lilliput.detection import coco, voc
from lilliput.detection.annotated import Annotated, Box, ImageFiles, Remarks
from lilliput.errors import BadData
from lilliput.images.decode import decode_whole, quietly, sizes
from lilliput.system.progress import say

SHARE = 0.2  # of the images that judge, where there is no split and nobody says
SMALLEST = 1.0  # pixels a side of the image, below which a box shows nothing
SAME_SHAPE = 0.02  # by how much the ratios of sides of an image and of its smaller copy may differ, as a share


@dataclass(frozen=True)
class BoxedImages:
    """Images squeezed to squares of S pixels, in memory, with their boxes on them: corners in 0..S."""

    files: list[str]  # below the folder
    pixels: Tensor  # uint8 [N, 3, S, S]
    boxes: list[Tensor]  # float [n, 4] each: left, top, right, bottom
    labels: list[Tensor]  # int64 [n] each, from 1 on: 0 is the background
    aside: list[Tensor]  # bool [n] each
    sizes: list[tuple[int, int]]  # width and height before
    classes: list[str]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def image_size(self) -> int:
        return self.pixels.shape[-1]

    @property
    def digest(self) -> str:
        """Of all that a detector and its scores can come from."""
        digest = hashlib.sha256(repr((self.classes, self.image_size)).encode())
        for tensor in (self.pixels, *self.boxes, *self.labels, *self.aside):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    @property
    def shown(self) -> set[str]:
        """The classes of its boxes, but for those set aside."""
        parts = zip(self.labels, self.aside, strict=True)
        return {self.classes[label - 1] for labels, aside in parts for label in labels[~aside].tolist()}

    def take(self, rows: np.ndarray) -> "BoxedImages":
        """The images at these rows alone."""
        lists = (self.files, self.boxes, self.labels, self.aside, self.sizes)
        files, boxes, labels, aside, sizes = ([values[row] for row in rows] for values in lists)
        return BoxedImages(files, self.pixels[rows], boxes, labels, aside, sizes, self.classes)

    def load(self, rows: Sequence[int] | np.ndarray | slice, device: str | torch.device) -> Tensor:
        """Float [B, 3, S, S] in 0..1 on the device."""
        return self.pixels[rows].to(device).float().div_(255)


def open_boxes(
    folder: str | os.PathLike, size: int, *, test_share: float | None = None, seed: int = 0
) -> tuple[BoxedImages, BoxedImages]:
    """The images to learn from and those to judge by: of train/ and test/, else a share drawn by the seed.

    Boxes are a .json as COCO writes it, or an .xml for each image as Pascal VOC does. What is passed over is said;
    BadData where nothing is left to learn or to judge.
    """
    root = existing_folder(folder)
    layout = layout_of(root)
    places = [root] if layout is None else [layout.train, layout.test]
    parts = [_read(place) for place in places]
    classes = sorted({box.name for part in parts for image in part for box in image.boxes if not box.aside})
    loaded = [_loaded(place, part, classes, size) for place, part in zip(places, parts, strict=True)]
    train, test = loaded if layout else _split(loaded[0], test_share, seed, root)
    for images, purpose in ((train, "learn from"), (test, "judge by")):
        if not images.shown:
            raise BadData(f"{root} has no box to {purpose}; see what was passed over")
    if len(train) < 2:
        raise BadData(f"{root} has {len(train)} image to learn from; a batch needs at least 2")
    if alone := sorted(test.shown - train.shown):
        say(f"{root}: nothing to learn {', '.join(map(repr, alone))} from, which counts as never found")
    return train, test


def _split(whole: BoxedImages, share: float | None, seed: int, root: Path) -> tuple[BoxedImages, BoxedImages]:
    order = np.random.default_rng(seed).permutation(len(whole))
    tests = _count(len(whole), share, root)
    return whole.take(np.sort(order[tests:])), whole.take(np.sort(order[:tests]))


def _count(images: int, share: float | None, root: Path) -> int:
    if images < 3:
        raise BadData(f"{root} has {images} image with boxes; it takes three, two to learn from and one to judge by")
    return min(max(1, round(images * (SHARE if share is None else share))), images - 2)


def _read(root: Path) -> list[Annotated]:
    """What is told of the images in a folder, by the order of their files."""
    images, remarks = ImageFiles(root), Remarks()
    tables, notes = coco.annotations(root), voc.annotations(root)
    if len(tables) > 1:
        raise BadData(f"{tables[0]} and {tables[1].name} both tell boxes; leave one of them where it is")
    if tables:
        found = list(coco.read(tables[0], images, remarks))
    elif notes:
        found = list(voc.read(notes, images, remarks))
    else:
        raise BadData(
            f"{root} holds no boxes: neither a .json as COCO writes it ({root / 'annotations.json'}) nor .xml files as "
            f"Pascal VOC does, beside the images or in {root / 'Annotations'}; convert what you have to one of them"
        )
    found = _once(found, remarks, root)
    if untold := len(images) - len(found):
        remarks.counts["image(s) that no annotation is for"] = untold
        told = {annotated.image for annotated in found}
        paths = (root / path for same_name in images.by_name.values() for path in same_name)
        remarks.examples["image(s) that no annotation is for"] = next(path.name for path in paths if path not in told)
    boxes = sum(len(annotated.boxes) for annotated in found)
    say(f"{root}: {len(found)} images with {boxes} boxes" + (f"; passed over: {remarks}" if remarks.counts else ""))
    if not boxes:
        raise BadData(f"{root} has annotations, but no box in an image that is there; passed over: {remarks}")
    return found


def _once(found: list[Annotated], remarks: Remarks, root: Path) -> list[Annotated]:
    """An image that two annotations are for has the boxes of the first."""
    by_image: dict[Path, Annotated] = {}
    for annotated in found:
        if annotated.image in by_image:
            remarks.add("second annotation(s) of an image", annotated.image.relative_to(root).as_posix())
        else:
            by_image[annotated.image] = annotated
    return [by_image[image] for image in sorted(by_image)]


def _loaded(root: Path, part: list[Annotated], classes: list[str], size: int) -> BoxedImages:
    remarks = Remarks()
    pixels, frames = _decoded(part, size, f"images of {root.name}")
    for annotated, frame in zip(part, frames, strict=True):
        if isinstance(frame, str):
            remarks.add(f"unreadable ({frame})", annotated.image.relative_to(root).as_posix())
    shown = {row: frame for row, frame in enumerate(frames) if isinstance(frame, Frame)}
    images = [part[row] for row in shown]
    placed = [_placed(part[row], frame, remarks) for row, frame in shown.items()]
    numbers = {name: label for label, name in enumerate(classes, 1)}
    loaded = BoxedImages(
        [image.image.relative_to(root).as_posix() for image in images],
        torch.from_numpy(pixels[list(shown)]),
        [torch.tensor([box.corners for box in boxes]).view(-1, 4) * size for boxes in placed],
        [torch.tensor([numbers.get(box.name, 0) for box in boxes], dtype=torch.int64) for boxes in placed],
        [torch.tensor([box.aside or box.name not in numbers for box in boxes], dtype=torch.bool) for boxes in placed],
        [frame.size for frame in shown.values()],
        classes,
    )
    if remarks.counts:
        say(f"{root}: passed over: {remarks}")
    return loaded


def _decoded(part: list[Annotated], size: int, what: str) -> tuple[np.ndarray, list["Frame | str"]]:
    """uint8 [N, 3, S, S], and of each image the frame of its boxes, or why it cannot be read."""
    pixels = np.empty((len(part), 3, size, size), np.uint8)
    frames: list[Frame | str] = [""] * len(part)

    def decode_row(row: int) -> None:
        annotated = part[row]
        try:
            frame = frame_of(annotated.size, *sizes(annotated.image))
            pixels[row] = decode_whole(annotated.image, size, upright=frame.upright)
            frames[row] = frame
        except Exception as error:  # what a damaged file makes Pillow raise is not documented
            frames[row] = reason_of(error)

    with quietly():
        in_parallel(decode_row, len(part), what)
    return pixels, frames


class Frame(NamedTuple):
    """How an image is to be shown, and what its boxes are measured in; width and height in pixels."""

    size: tuple[int, int]  # of the image
    measured: tuple[int, int]  # of what the boxes were drawn on
    upright: bool  # or as stored: a camera's tag may tell the two apart


def frame_of(told: tuple[int, int] | None, stored: tuple[int, int], upright: tuple[int, int]) -> Frame:
    """A size that an annotation tells counts where the image has its shape, for then the image was turned or shrunk
    since; else the annotation is wrong."""
    if told == stored != upright:
        return Frame(stored, stored, upright=False)
    if told is None:
        return Frame(upright, upright, upright=True)
    same_shape = abs(told[0] * upright[1] / (told[1] * upright[0]) - 1) < SAME_SHAPE
    return Frame(upright, told if same_shape else upright, upright=True)


def _placed(annotated: Annotated, frame: Frame, remarks: Remarks) -> list[Box]:
    """Its boxes with corners in 0..1, cut at the image's edges; those that have no size there are remarked on."""
    width, height = frame.measured
    kept = []
    for box in annotated.boxes:
        sides = (width, height, width, height)
        corners = [min(max(corner / side, 0.0), 1.0) for corner, side in zip(box.corners, sides, strict=True)]
        left, top, right, bottom = corners
        if (right - left) * frame.size[0] < SMALLEST or (bottom - top) * frame.size[1] < SMALLEST:
            remarks.add("box(es) without a size in their image", annotated.image.name)
        else:
            kept.append(box._replace(corners=(left, top, right, bottom)))
    return kept
