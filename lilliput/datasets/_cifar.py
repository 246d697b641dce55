"""What CIFAR-10 and CIFAR-100 have in common: torchvision knows, checks and reads both.

Krizhevsky, Learning multiple layers of features from tiny images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lilliput.data.archive import unpack
from lilliput.data.download import fetch
from lilliput.data.store import Data
from lilliput.datasets._arrays import Arrays, Content
from lilliput.datasets._arrays import prepare as prepare_arrays
from lilliput.errors import BadData

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
    source = Arrays(kind.name, SIDE, kind.folder, kind.files, partial(_read, kind), partial(_fetch, kind))
    return prepare_arrays(source, folder=folder, image_size=image_size, limit=limit)


def _read(kind: Kind, root: Path, train: bool) -> Content:
    """torchvision unpickles a file only after its MD5 is right."""
    try:
        opened = _of_torchvision(kind)(root, train=train, download=False)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise BadData(f"{root / kind.folder} is damaged ({error}): remove it and try again") from error
    return Content(opened.data, opened.targets, opened.classes)


def _fetch(kind: Kind, root: Path) -> None:
    theirs = _of_torchvision(kind)
    archive = fetch(theirs.url, root / theirs.filename, size=kind.archive_bytes, md5=theirs.tgz_md5)
    unpack(archive, root / kind.folder, kind.files, most_bytes=UNPACKED_BYTES)


def _of_torchvision(kind: Kind) -> Any:
    import torchvision  # here, so that listing datasets stays quick

    return getattr(torchvision.datasets, kind.torchvision)
