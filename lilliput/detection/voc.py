"""Boxes as Pascal VOC writes them: an .xml for each image, beside it or in a folder of their own.

Everingham et al., IJCV 2010, https://doi.org/10.1007/s11263-009-0275-4; objects that are marked as difficult do
not count in scores there. Corners are taken as they stand: by some hands pixels count from 1, by others from 0.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from lilliput.detection.annotated import Annotated, Box, Corners, ImageFiles, Remarks
from lilliput.errors import BadData
from lilliput.system.files import read_whole

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def annotations(root: Path) -> list[Path]:
    """The .xml files below a folder, sorted; hidden ones are none."""
    found = (path for path in root.rglob("*") if path.suffix.lower() == ".xml")
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def read(paths: list[Path], images: ImageFiles, remarks: Remarks) -> Iterator[Annotated]:
    """Of every .xml the image that it is for; what cannot be read, or has no image, is remarked on and passed over."""
    for path in paths:
        name = path.relative_to(images.root).as_posix()
        try:
            annotation = _parsed(path)
        except (BadData, ValueError, ElementTree.ParseError, LookupError) as error:
            remarks.add(f".xml that cannot be read: {error}", name)
            continue
        if annotation.tag != "annotation":
            remarks.add(".xml that tells no boxes", name)
            continue
        said = _text(annotation, "filename")
        image = images.beside(path) or (images.named(said, path.parent) if said else None)
        if image is None:
            remarks.add("image(s) missing", said or name)
            continue
        boxes = [box for part in annotation.findall("object") for box in _box(part, name, remarks)]
        yield Annotated(image, boxes, _size(annotation))


def _parsed(path: Path) -> ElementTree.Element:
    content = read_whole(path)
    if b"<!ENTITY" in content:  # a kilobyte of them can be a gigabyte of text
        raise BadData("it defines entities")
    return ElementTree.fromstring(content)


def _size(annotation: ElementTree.Element) -> tuple[int, int] | None:
    """None where it is not told, or told as 0 x 0."""
    width, height = (_number(annotation, f"size/{name}") for name in ("width", "height"))
    return (round(width), round(height)) if width >= 1 and height >= 1 else None


def _box(part: ElementTree.Element, file: str, remarks: Remarks) -> Iterator[Box]:
    name = _text(part, "name")
    corners: Corners = tuple(_number(part, f"bndbox/{corner}") for corner in CORNERS)  # type: ignore[assignment]
    if not name:
        remarks.add("box(es) without a class", file)
    elif not all(map(math.isfinite, corners)):
        remarks.add("box(es) without four numbers", file)
    else:
        yield Box(corners, name, aside=_number(part, "difficult") == 1)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ElementTree.Element, path: str) -> float:
    """Not-a-number where there is none."""
    try:
        number = float(_text(element, path))
    except ValueError:
        return math.nan
    return number if abs(number) < 1e9 else math.nan
