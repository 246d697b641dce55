"""CIFAR-10: 60,000 images of 32 x 32 pixels, 5,000 to train and 1,000 to test in each of ten classes.

Krizhevsky, Learning multiple layers of features from tiny images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os

from lilliput.data.store import Data
from lilliput.datasets import _cifar

KIND = _cifar.Kind(
    name="cifar10",
    torchvision="CIFAR10",
    folder="cifar-10-batches-py",
    files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    archive_bytes=170_498_071,
)


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of CIFAR-10, from `folder`, else from a download; the training images are the pool."""
    return _cifar.prepare(KIND, folder=folder, image_size=image_size, limit=limit)
