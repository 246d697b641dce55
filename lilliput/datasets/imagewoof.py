"""Imagewoof: 12,954 photographs of ten breeds of dogs of ImageNet, the shorter side 160 pixels; harder than Imagenette.

Howard, https://github.com/fastai/imagenette#imagewoof. Its images come from ImageNet: research use.
"""

import os

from lilliput.data.store import Data
from lilliput.datasets import _imagenette

KIND = _imagenette.kind("imagewoof", md5="3d200a7be99704a0d7509be2a9fbfe15")
CLASSES = {
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
}


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Imagewoof, from `folder`, else from a download; the training images are the pool."""
    return _imagenette.prepare(KIND, CLASSES, folder=folder, image_size=image_size, limit=limit)
