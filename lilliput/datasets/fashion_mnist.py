"""Fashion-MNIST: 70,000 grey pictures of ten kinds of clothes, 28 x 28: 6,000 of each to train and 1,000 to test.

Xiao, Rasul, Vollgraf, 2017, https://arxiv.org/abs/1708.07747.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.data.archive import gunzip
from lilliput.data.download import fetch
from lilliput.data.store import Data
from lilliput.datasets._arrays import Arrays, Content
from lilliput.datasets._arrays import prepare as prepare_arrays
from lilliput.errors import BadData

SIDE = 28
MOST_BYTES, UNPACKED_BYTES = 30_000_000, 60_000 * SIDE**2 + 1024  # of a file
FOLDER = "FashionMNIST/raw"
FILES = [f"{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Fashion-MNIST, from `folder`, else from a download; the training images are the pool."""
    source = Arrays("fashion_mnist", SIDE, FOLDER, FILES, _read, _fetch)
    return prepare_arrays(source, folder=folder, image_size=image_size, limit=limit)


def _read(root: Path, train: bool) -> Content:
    try:
        opened = _of_torchvision()(root, train=train, download=False)
        grey, labels = opened.data.numpy(), opened.targets.numpy()  # uint8 [N, H, H], int64 [N]
        if grey.shape[1:] != (SIDE, SIDE) or not 0 <= labels.min() <= labels.max() < len(opened.classes):
            raise ValueError(f"images of {grey.shape[1:]}, labels from {labels.min()} to {labels.max()}")
    except Exception as error:  # what a damaged file makes torchvision raise is not documented
        raise BadData(f"{root / FOLDER} is damaged ({error}): remove it and try again") from error
    return Content(np.broadcast_to(grey[..., None], (*grey.shape, 3)), labels, opened.classes)


def _fetch(root: Path) -> None:
    theirs = _of_torchvision()
    for file, md5 in theirs.resources:
        archive = root / FOLDER / file
        if not archive.with_suffix("").exists():
            fetch(f"{theirs.mirrors[0]}{file}", archive, md5=md5, most_bytes=MOST_BYTES)
            gunzip(archive, archive.with_suffix(""), most_bytes=UNPACKED_BYTES)


def _of_torchvision() -> Any:
    from torchvision.datasets import FashionMNIST  # here, so that listing datasets stays quick

    return FashionMNIST
