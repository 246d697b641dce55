"""Caltech 101: 8,677 photographs of 101 kinds of things, 31 to 800 of each, about 300 x 200 pixels.

Fei-Fei, Fergus, Perona, Computer Vision and Image Understanding 2007, https://data.caltech.edu/records/mzrjq-6wc02. It
has no split: a fifth of each class, drawn always alike, tests. The clutter of BACKGROUND_Google is no class.
"""

import os

from lilliput.data.store import Data
from lilliput.datasets import _fetched, _files

REMOTE = _fetched.Remote(
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    "3138e1922a9193bfa496528edbbc45d0",
    most_bytes=150_000_000,
    unpacked_bytes=200_000_000,
    inner="caltech-101/101_ObjectCategories.tar.gz",
)
CLUTTER = "BACKGROUND_Google"
KIND = _fetched.Kind("caltech101", [REMOTE], "caltech-101", ["101_ObjectCategories"])


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Caltech 101, from `folder`, else from a download; the training images are the pool."""
    place = _fetched.place_of(KIND, folder) / "101_ObjectCategories"
    whole = _files.labelled(place, _class_of)
    return _files.data_of(KIND.name, _files.learned(whole), image_size=image_size, limit=limit)


def _class_of(file: str) -> str | None:
    name, _, within = file.partition("/")
    return name if within and name != CLUTTER else None
