"""Small pictures of coloured rectangles on noise, with their boxes, and the files that tell them."""

import json

import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 230), "red": (230, 50, 40)}


def rectangle(draw, size):
    """Left, top, right, bottom of one that fills a good part of the picture."""
    width, height = draw.integers(size * 0.35, size * 0.7, 2)
    left, top = draw.integers(0, size - width), draw.integers(0, size - height)
    return [int(corner) for corner in (left, top, left + width, top + height)]


def picture(draw, size, boxes):
    """RGB noise with filled boxes [(corners, class)]."""
    pixels = draw.integers(90, 160, (size, size, 3)).astype(np.uint8)
    for (left, top, right, bottom), name in boxes:
        pixels[top:bottom, left:right] = COLOURS[name]
    return Image.fromarray(pixels)


def rectangles(folder, count, *, size=64, seed=0):
    """So many pictures, an .xml beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        boxes = [(rectangle(draw, size), sorted(COLOURS)[number % 2])]
        picture(draw, size, boxes).save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.xml").write_text(voc(boxes, (size, size)))
    return folder


def voc(boxes, size=(0, 0), *, filename="", difficult=0):
    """The text of an .xml for [(corners, class)]."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        + "</bndbox></object>"
        for corners, name in boxes
    )
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{shape}{objects}</annotation>"


def coco(path, images, annotations, categories=("blue", "red")):
    """A .json: images [(file name, width, height)], annotations [(image, category, bbox)] or dicts as they are."""
    content = {
        "images": [
            {"id": number, "file_name": name, "width": width, "height": height}
            for number, (name, width, height) in enumerate(images)
        ],
        "annotations": [
            dict(zip(("image_id", "category_id", "bbox"), entry, strict=True)) if isinstance(entry, tuple) else entry
            for entry in annotations
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
    }
    path.write_text(json.dumps(content))


def plain(path, width, height, **saved):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 100, 50)).save(path, **saved)


@pytest.fixture
def three(tmp_path):
    """Three plain pictures of 80 x 40 pixels."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        plain(tmp_path / "boxes" / name, 80, 40)
    return tmp_path / "boxes"
