"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64 pixels, 500 images of each to train and 50 to test.

Le, Yang, Tiny ImageNet visual recognition challenge, 2015, http://cs231n.stanford.edu/tiny-imagenet-200.zip. The labels
of its own test images are not published: the validation images test. Research use.
"""

import os
from collections import Counter
from pathlib import Path

from lilliput.data.store import Data
from lilliput.datasets import _fetched, _files
from lilliput.errors import BadData

REMOTE = _fetched.Remote(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    most_bytes=250_000_000,
    unpacked_bytes=400_000_000,
)
KIND = _fetched.Kind(
    "tiny_imagenet",
    [REMOTE],
    "tiny-imagenet-200",
    ["train", "val/images", "val/val_annotations.txt", "wnids.txt", "words.txt"],
)


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Tiny ImageNet, from `folder`, else from a download; the training images are the pool."""
    place = _fetched.place_of(KIND, folder)
    classes = _classes(place)
    judging = dict(_columns(place / "val" / "val_annotations.txt"))
    train = _files.labelled(place / "train", lambda file: classes.get(file.split("/")[0]), list(classes.values()))
    test = _files.labelled(
        place / "val" / "images", lambda file: classes.get(judging.get(file, "")), list(classes.values())
    )
    return _files.data_of(KIND.name, _files.learned(train, test), image_size=image_size, limit=limit)


def _classes(place: Path) -> dict[str, str]:
    """WordNet's number -> its first word, or the number itself where two have that word."""
    words = {number: words.split(",")[0] for number, words in _columns(place / "words.txt")}
    numbers = sorted(_files.text_of(place / "wnids.txt").split())
    often = Counter(words.get(number) for number in numbers)
    return {number: words[number] if number in words and often[words[number]] == 1 else number for number in numbers}


def _columns(table: Path) -> list[tuple[str, str]]:
    """The first two columns of a table whose columns tabs part."""
    rows = [line.split("\t") for line in _files.text_of(table).splitlines() if line]
    if odd := [row for row in rows if len(row) < 2]:
        raise BadData(f"{table} has a line {odd[0][0]!r:.80} of one column; get it again")
    return [(row[0], row[1]) for row in rows]
