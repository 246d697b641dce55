"""SVHN: 99,289 house numbers from the street, cut to a digit each, 32 x 32: 73,257 to train and 26,032 to test.

Netzer, Wang, Coates, Bissacco, Wu, Ng, NIPS workshop 2011, http://ufldl.stanford.edu/housenumbers/. Without the 531,131
easier digits that the authors call extra.
"""

import os
from pathlib import Path
from typing import Any

from lilliput.data.download import fetch
from lilliput.data.store import Data
from lilliput.datasets._arrays import Arrays, Content
from lilliput.datasets._arrays import prepare as prepare_arrays
from lilliput.errors import BadData

SIDE = 32
MOST_BYTES = 200_000_000  # of a file
SPLITS = ("train", "test")


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of SVHN, from the .mat files in `folder`, else from a download; the training images are the pool."""
    files = [f"{split}_32x32.mat" for split in SPLITS]
    source = Arrays("svhn", SIDE, ".", files, _read, _fetch, below="svhn")
    return prepare_arrays(source, folder=folder, image_size=image_size, limit=limit)


def _read(root: Path, train: bool) -> Content:
    """torchvision reads a file only after its MD5 is right."""
    try:
        opened = _of_torchvision()(root, split=SPLITS[not train], download=False)
    except Exception as error:  # what a damaged file makes scipy raise is not documented
        raise BadData(f"{root} is damaged ({error}): remove it and try again") from error
    return Content(opened.data.transpose(0, 2, 3, 1), opened.labels, [str(digit) for digit in range(10)])


def _fetch(root: Path) -> None:
    for url, file, md5 in (_of_torchvision().split_list[split] for split in SPLITS):
        fetch(url, root / file, md5=md5, most_bytes=MOST_BYTES)


def _of_torchvision() -> Any:
    from torchvision.datasets import SVHN  # here, so that listing datasets stays quick

    return SVHN
