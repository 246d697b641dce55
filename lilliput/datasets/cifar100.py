"""CIFAR-100: 60,000 images of 32 x 32 pixels, 500 to train and 100 to test in each of a hundred classes.

Krizhevsky, Learning multiple layers of features from tiny images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os

from lilliput.data.store import Data
from lilliput.datasets import _cifar

KIND = _cifar.Kind(
    name="cifar100",
    torchvision="CIFAR100",
    folder="cifar-100-python",
    files=("train", "test", "meta"),
    archive_bytes=169_001_437,
)


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of CIFAR-100, from `folder`, else from a download; the training images are the pool."""
    return _cifar.prepare(KIND, folder=folder, image_size=image_size, limit=limit)
