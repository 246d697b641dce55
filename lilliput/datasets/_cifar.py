"""What CIFAR-10 and CIFAR-100 have in common: torchvision knows, checks and reads both.

Krizhevsky, Learning multiple layers of features from tiny images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lilliput.data.archive import unpack
from lilliput.data.download import downloads, fetch
from lilliput.data.filling import fill_from_array
from lilliput.data.store import Data, Store, chosen_size, spaced
from lilliput.data.writing import at_rest, prepared
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home

SIDE = 32
UNPACKED_BYTES = 200_000_000  # of an archive, at most: 60,000 images with labels and names


class Kind(NamedTuple):
    name: str  # of the dataset here
    torchvision: str  # of the class in torchvision.datasets
    folder: str  # in which its archive unpacks
    files: Sequence[str]  # all that it reads
    archive_bytes: int


def prepare(
    kind: Kind, *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of one kind of CIFAR; its training images are the pool."""
    size = chosen_size(image_size, SIDE)
    root = _downloaded(kind) if folder is None else _given(kind, Path(folder).expanduser())
    train, test = _store(kind, root, "train", size, None), _store(kind, root, "test", size, None)
    if limit is None or limit >= len(train):
        return Data(kind.name, train, train, test)
    return Data(kind.name, _store(kind, root, "pool", size, limit), train, test)


def _store(kind: Kind, root: Path, split: str, size: int, limit: int | None) -> Store:
    paths = [root / kind.folder / name for name in kind.files]
    key = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths] + [size, limit]
    store = at_rest(name=kind.name, split=split, key=key)  # asked first, as torchvision reads everything at once
    if store is not None:
        return store
    source = _opened(kind, root, train=split != "test")
    rows = spaced(len(source.data), limit)
    labelled = split != "pool"
    return prepared(
        name=kind.name,
        split=split,
        key=key,
        source=f"{root / kind.folder} ({split})",
        image_size=size,
        count=len(rows),
        fill=fill_from_array(source.data, rows, f"reading {kind.name} {split}"),
        labels=source.targets if labelled else None,
        classes=source.classes if labelled else None,
    )


def _opened(kind: Kind, root: Path, *, train: bool) -> Any:
    """torchvision unpickles a file only after its MD5 is right."""
    try:
        return _of_torchvision(kind)(root, train=train, download=False)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise BadData(f"{root / kind.folder} is damaged ({error}): remove it and try again") from error


def _of_torchvision(kind: Kind) -> Any:
    import torchvision  # here, so that listing datasets stays quick

    return getattr(torchvision.datasets, kind.torchvision)


def _given(kind: Kind, folder: Path) -> Path:
    """The root of the user's files: the folder that holds what the archive unpacks, or that itself."""
    for root in (folder, folder.parent if folder.name == kind.folder else folder):
        if _complete(kind, root):
            return root.resolve()
    raise BadData(
        f"{folder} has no {kind.folder}/ with {', '.join(kind.files)}; leave folder out to download them, "
        "or use the dataset 'folder' for folders of images"
    )


def _downloaded(kind: Kind) -> Path:
    root = home() / "downloads"
    if _complete(kind, root):
        return root.resolve()
    theirs = _of_torchvision(kind)
    archive = root / theirs.filename
    with downloads():
        if not _complete(kind, root):
            try:
                fetch(theirs.url, archive, size=kind.archive_bytes, md5=theirs.tgz_md5)
            except LilliputError as error:
                raise LilliputError(f"{error}; or unpack it in {root}, or in a folder given as `folder`") from error
            unpack(archive, root / kind.folder, kind.files, most_bytes=UNPACKED_BYTES)
    return root.resolve()


def _complete(kind: Kind, root: Path) -> bool:
    return all((root / kind.folder / name).is_file() for name in kind.files)
