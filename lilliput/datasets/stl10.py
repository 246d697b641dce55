"""STL-10: 100,000 unlabelled photographs and 13,000 labelled ones of ten classes, 96 x 96.

Coates, Lee, Ng, AISTATS 2011, https://cs.stanford.edu/~acoates/stl10/. Its images come from ImageNet: research use.
"""

import os
from pathlib import Path

import numpy as np

from lilliput.data.archive import unpack
from lilliput.data.download import downloads, fetch, md5_of
from lilliput.data.store import Data, Store, chosen_size, spaced
from lilliput.data.writing import prepared
from lilliput.errors import BadData, LilliputError
from lilliput.images.decode import fill_from_array
from lilliput.system.files import home
from lilliput.system.progress import say

url = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
archive_md5 = "91f7769df0f17e558f3565bffb0c7dfb"
archive_bytes = 2_640_397_119
labelled_files = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
unlabelled_file = "unlabeled_X.bin"
md5s = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}
unpacked_bytes = 113_000 * 3 * 96 * 96 + 13_000 + (1 << 20)  # images, labels; room for the classes' names and the folds
classes = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
side = 96


def prepare(
    *,
    folder: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    unlabelled: bool = True,
) -> Data:
    """Stores of STL-10, from the .bin files in `folder`, else from a download; `unlabelled=False` does without the
    100,000 images and learns from the labelled training images."""
    size = chosen_size(image_size, side)
    source = _given(Path(folder).expanduser()) if folder is not None else _downloaded()
    train, test = (_store(source, split, size, None) for split in ("train", "test"))
    if unlabelled and not (source / unlabelled_file).exists():
        say(f"{source} has no {unlabelled_file}: the {len(train)} training images serve as the pool")
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
        classes=None if labels is None else classes,
    )


def _images(path: Path) -> np.ndarray:
    """The raw images, uint8 [N, H, W, 3]: the file has them as [N, 3, W, H]."""
    count, rest = divmod(path.stat().st_size, 3 * side * side)
    if rest or not count:
        raise BadData(f"{path} has {path.stat().st_size} bytes, no multiple of {3 * side * side}; get it again")
    return np.memmap(path, dtype=np.uint8, mode="r", shape=(count, 3, side, side)).transpose(0, 3, 2, 1)


def _check(path: Path) -> None:
    if (found := md5_of(path)) != md5s[path.name]:
        raise BadData(f"{path} has MD5 {found} instead of {md5s[path.name]}: remove it and get it again")


def _state(path: Path) -> list:
    about = path.stat()
    return [str(path), about.st_size, about.st_mtime_ns]


def _given(folder: Path) -> Path:
    """Where the files are in the user's folder: directly, or as the archive unpacks."""
    for place in (folder, folder / "stl10_binary"):
        if _complete(place):
            return place.resolve()
    absent = [name for name in labelled_files if not (folder / name).is_file()]
    raise BadData(
        f"{folder} lacks {', '.join(absent)}; unpack {url} there, or leave folder out to download, "
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
                archive = fetch(url, root / "stl10_binary.tar.gz", size=archive_bytes, md5=archive_md5)
            except LilliputError as error:
                raise LilliputError(
                    f"{error}; or put its .bin files into {place}, or into a folder given as `folder`"
                ) from error
            names = unlabelled_file, *labelled_files  # the labelled ones last, as they tell it is done
            unpack(archive, place, names, most_bytes=unpacked_bytes)
    return place.resolve()


def _complete(place: Path) -> bool:
    return all((place / name).is_file() for name in labelled_files)
