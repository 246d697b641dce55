"""Boxes as COCO writes them: one .json for a folder of images.

Lin et al., ECCV 2014, https://arxiv.org/abs/1405.0312; the format: https://cocodataset.org/#format-data. Crowds are
neither learned from nor counted in scores there.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lilliput.detection.annotated import Annotated, Box, ImageFiles, Remarks
from lilliput.errors import BadData
from lilliput.system.files import read_whole

LISTS = ("images", "annotations", "categories")


def annotations(root: Path) -> list[Path]:
    """The .json files in a folder and in its annotations/, sorted, that have COCO's lists."""
    places = [root, *(folder for folder in root.iterdir() if folder.name.lower() == "annotations" and folder.is_dir())]
    paths = sorted(path for place in places for path in place.iterdir() if path.suffix.lower() == ".json")
    return [path for path in paths if path.is_file() and not path.name.startswith(".") and _content(path) is not None]


def read(path: Path, images: ImageFiles, remarks: Remarks) -> Iterator[Annotated]:
    """Every image of the file with its boxes; what does not fit together is remarked on and passed over."""
    content = _content(path)
    if content is None:
        raise BadData(f"{path} has not the lists {', '.join(LISTS)}")
    names = {entry["id"]: entry["name"].strip() for entry in content["categories"] if _is_named(entry, "name")}
    boxes: dict[Any, list[Box]] = defaultdict(list)
    known = {entry["id"] for entry in content["images"] if _is_named(entry, "file_name")}
    for number, entry in enumerate(content["annotations"]):
        box, what = _box(entry, names, known)
        if box is None:
            remarks.add(f"box(es) {what}", f"{path.name}, annotation {number}")
        else:
            boxes[entry["image_id"]].append(box)
    for entry in content["images"]:
        if not _is_named(entry, "file_name"):
            remarks.add("image(s) without a name", path.name)
        elif (image := images.named(entry["file_name"], path.parent)) is None:
            remarks.add("image(s) missing", entry["file_name"])
        else:
            yield Annotated(image, boxes[entry["id"]], _size(entry))


def _content(path: Path) -> dict[str, list] | None:
    """None where it is JSON of another kind, or none."""
    try:
        content = json.loads(read_whole(path))
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict) and all(isinstance(content.get(name), list) for name in LISTS):
        return content
    return None


def _is_named(entry: Any, name: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int | str) and isinstance(entry.get(name), str)


def _box(entry: Any, names: dict[Any, str], known: set) -> tuple[Box | None, str]:
    """The box, or what is wrong with it."""
    entry = entry if isinstance(entry, dict) else {}
    category, image, numbers = (entry.get(name) for name in ("category_id", "image_id", "bbox"))
    if not isinstance(image, int | str) or image not in known:
        return None, "of no image that is listed"
    if not isinstance(category, int | str) or not names.get(category):
        return None, "without a class"
    if not (isinstance(numbers, list) and len(numbers) == 4 and all(map(_is_number, numbers))):
        return None, "without four numbers"
    left, top, width, height = map(float, numbers)
    return Box((left, top, left + width, top + height), names[category], aside=bool(entry.get("iscrowd"))), ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e9


def _size(entry: dict) -> tuple[int, int] | None:
    width, height = (float(entry[name]) if _is_number(entry.get(name)) else 0.0 for name in ("width", "height"))
    return (round(width), round(height)) if width >= 1 and height >= 1 else None
