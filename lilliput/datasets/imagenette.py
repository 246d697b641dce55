"""Imagenette: 13,394 photographs of ten easily told classes of ImageNet, the shorter side 160 pixels.

Howard, https://github.com/fastai/imagenette. Its images come from ImageNet: research use.
"""

import os

from lilliput.data.store import Data
from lilliput.datasets import _imagenette

KIND = _imagenette.kind("imagenette", md5="e793b78cc4c9e9a4ccc0c1155377a412")
CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Imagenette, from `folder`, else from a download; the training images are the pool."""
    return _imagenette.prepare(KIND, CLASSES, folder=folder, image_size=image_size, limit=limit)
