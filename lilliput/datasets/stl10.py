"""STL-10: 100,000 unlabelled photographs and 13,000 labelled ones of ten classes, 96 x 96.

Coates, Lee, Ng, AISTATS 2011, https://cs.stanford.edu/~acoates/stl10/. Its images come from ImageNet: research use.
"""

import os
from pathlib import Path

import numpy as np

from lilliput.data.archive import unpack
from lilliput.data.download import downloads, fetch, md5_of
from lilliput.data.filling import fill_from_array
from lilliput.data.store import Data, Store, chosen_size, spaced
from lilliput.data.writing import prepared
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home
from lilliput.system.progress import say

URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
ARCHIVE_MD5 = "91f7769df0f17e558f3565bffb0c7dfb"
ARCHIVE_BYTES = 2_640_397_119
LABELLED_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
UNLABELLED_FILE = "unlabeled_X.bin"
MD5S = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}
UNPACKED_BYTES = 113_000 * 3 * 96 * 96 + 13_000 + (1 << 20)  # images, labels; room for the classes' names and the folds
CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
SIDE = 96


def prepare(
    *,
    folder: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    unlabelled: bool = True,
) -> Data:
    """Stores of STL-10, from the .bin files in `folder`, else from a download; `unlabelled=False` does without the
    100,000 images and learns from the labelled training images."""
    size = chosen_size(image_size, SIDE)
    source = _given(Path(folder).expanduser()) if folder is not None else _downloaded()
    train, test = (_store(source, split, size, None) for split in ("train", "test"))
    if unlabelled and not (source / UNLABELLED_FILE).exists():
        say(f"{source} has no {UNLABELLED_FILE}: the {len(train)} training images serve as the pool")
        unlabelled = False
    if not unlabelled and (limit is None or limit >= len(train)):
        return Data("stl10", train, train, test)
    return Data("stl10", _store(source, "unlabeled" if unlabelled else "train", size, limit, "pool"), train, test)


def _store(source: Path, part: str, size: int, limit: int | None, split: str | None = None) -> Store:
    """One of the three parts; a pool has no labels."""
    split = split or part
    names = [f"{part}_X.bin"] + ([] if split == "pool" else [f"{part}_y.bin"])
    try:
        images = _images(source / names[0])
        labels = None if split == "pool" else np.fromfile(source / names[1], dtype=np.uint8).astype(np.int64) - 1
    except OSError as error:
        raise BadData(f"cannot read {error.filename or source}: {error.strerror}") from error
    rows = spaced(len(images), limit)

    def fill(stored: np.ndarray, masks: None) -> None:
        for name in names:
            _check(source / name)
        fill_from_array(images, rows, f"reading {names[0]}")(stored, masks)

    return prepared(
        name="stl10",
        split=split,
        key=[_state(source / name) for name in names] + [size, len(rows)],
        source=str(source / names[0]),
        image_size=size,
        count=len(rows),
        fill=fill,
        labels=labels,
        classes=None if labels is None else CLASSES,
    )


def _images(path: Path) -> np.ndarray:
    """The raw images, uint8 [N, H, W, 3]: the file has them as [N, 3, W, H]."""
    count, rest = divmod(path.stat().st_size, 3 * SIDE * SIDE)
    if rest or not count:
        raise BadData(f"{path} has {path.stat().st_size} bytes, no multiple of {3 * SIDE * SIDE}; get it again")
    return np.memmap(path, dtype=np.uint8, mode="r", shape=(count, 3, SIDE, SIDE)).transpose(0, 3, 2, 1)


def _check(path: Path) -> None:
    if (actual := md5_of(path)) != MD5S[path.name]:
        raise BadData(f"{path} has MD5 {actual} instead of {MD5S[path.name]}: remove it and get it again")


def _state(path: Path) -> list:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def _given(folder: Path) -> Path:
    """Where the files are in the user's folder: directly, or as the archive unpacks."""
    for place in (folder, folder / "stl10_binary"):
        if _complete(place):
            return place.resolve()
    absent = [name for name in LABELLED_FILES if not (folder / name).is_file()]
    raise BadData(
        f"{folder} lacks {', '.join(absent)}; unpack {URL} there, or leave folder out to download, "
        "or use the dataset 'folder' for folders of images"
    )


def _downloaded() -> Path:
    """The files under the home folder, downloaded unless they are there."""
    place = home() / "downloads" / "stl10_binary"
    if _complete(place):
        return place.resolve()
    with downloads() as root:
        if not _complete(place):
            try:
                archive = fetch(URL, root / "stl10_binary.tar.gz", size=ARCHIVE_BYTES, md5=ARCHIVE_MD5)
            except LilliputError as error:
                raise LilliputError(
                    f"{error}; or put its .bin files into {place}, or into a folder given as `folder`"
                ) from error
            names = UNLABELLED_FILE, *LABELLED_FILES  # the labelled ones last, as they tell it is done
            unpack(archive, place, names, most_bytes=UNPACKED_BYTES)
    return place.resolve()


def _complete(place: Path) -> bool:
    return all((place / name).is_file() for name in LABELLED_FILES)
