"""Data sets of small square images that lie in few files, each read at once: what they have in common."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lilliput.data.download import downloads
from lilliput.data.filling import fill_from_array
from lilliput.data.store import Data, Store, chosen_size, spaced
from lilliput.data.writing import at_rest, prepared
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home


class Content(NamedTuple):
    """A split's images."""

    pixels: np.ndarray  # uint8 [N, H, H, 3]
    labels: Sequence[int]
    classes: Sequence[str]


class Arrays(NamedTuple):
    name: str  # of the data set here
    side: int  # pixels
    folder: str  # below a root, where the files lie
    files: Sequence[str]  # all that is read
    read: Callable[[Path, bool], Content]  # of a root, the training images or those to test
    fetch: Callable[[Path], None]  # brings the files below a root
    below: str = "."  # the folder of downloads, our root


def prepare(source: Arrays, *, folder: str | os.PathLike | None, image_size: int | None, limit: int | None) -> Data:
    """Stores of the data set; its training images are the pool."""
    size = chosen_size(image_size, source.side)
    root = _downloaded(source) if folder is None else _given(source, Path(folder).expanduser())
    train, test = _store(source, root, "train", size, None), _store(source, root, "test", size, None)
    if limit is None or limit >= len(train):
        return Data(source.name, train, train, test)
    return Data(source.name, _store(source, root, "pool", size, limit), train, test)


def _store(source: Arrays, root: Path, split: str, size: int, limit: int | None) -> Store:
    paths = [root / source.folder / name for name in source.files]
    key = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths] + [size, limit]
    store = at_rest(name=source.name, split=split, key=key)  # asked first, as everything is read at once
    if store is not None:
        return store
    pixels, labels, classes = source.read(root, split != "test")
    rows = spaced(len(pixels), limit)
    labelled = split != "pool"
    return prepared(
        name=source.name,
        split=split,
        key=key,
        source=f"{root / source.folder} ({split})",
        image_size=size,
        count=len(rows),
        fill=fill_from_array(pixels, rows, f"reading {source.name} {split}"),
        labels=labels if labelled else None,
        classes=classes if labelled else None,
    )


def _given(source: Arrays, folder: Path) -> Path:
    """The root of the user's files: the folder that holds what is unpacked, or that itself."""
    inside = Path(source.folder).parts
    above = folder.parents[len(inside) - 1] if inside and folder.parts[-len(inside) :] == inside else folder
    for root in (folder, above):
        if _complete(source, root):
            return root.resolve()
    raise BadData(
        f"{folder} has no {Path(source.folder, '')}/ with {', '.join(source.files)}; leave folder out to download "
        "them, or use the dataset 'folder' for folders of images"
    )


def _downloaded(source: Arrays) -> Path:
    root = home() / "downloads" / source.below
    if not _complete(source, root):
        with downloads():
            if not _complete(source, root):
                try:
                    source.fetch(root)
                except BadData:
                    raise  # what came is damaged, which says its own way out
                except LilliputError as error:
                    raise LilliputError(f"{error}; or unpack it in {root}, or in a folder given as `folder`") from error
    return root.resolve()


def _complete(source: Arrays, root: Path) -> bool:
    return all((root / source.folder / name).is_file() for name in source.files)
