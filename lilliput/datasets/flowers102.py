"""Flowers 102: 8,189 photographs of 102 flowers, 20 of each to train and all others, 20 to 238, to test.

Nilsback, Zisserman, ICVGIP 2008, https://www.robots.ox.ac.uk/~vgg/data/flowers/102/. Of the three splits those called
train and validation train, as in Chen et al., ICML 2020 (SimCLR), https://arxiv.org/abs/2002.05709, appendix B.8.
"""

import os
from pathlib import Path

import numpy as np

from lilliput.data.store import Data
from lilliput.datasets import _fetched, _files
from lilliput.errors import BadData

ADDRESS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
REMOTES = (
    _fetched.Remote(f"{ADDRESS}/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", 400_000_000, 500_000_000),
    _fetched.Remote(f"{ADDRESS}/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", 1_000_000),
    _fetched.Remote(f"{ADDRESS}/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", 1_000_000),
)
COUNT = 102
KIND = _fetched.Kind("flowers102", REMOTES, "flowers-102", ["jpg", "imagelabels.mat", "setid.mat"])


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Flowers 102, from `folder`, else from a download; the training images are the pool."""
    place = _fetched.place_of(KIND, folder)
    classes = _classes()
    (numbers,) = _arrays(place / "imagelabels.mat", "labels")  # of image 1, 2, ..., from 1
    fitting, validating, judging = _arrays(place / "setid.mat", "trnid", "valid", "tstid")
    for what, found, most in (
        ("labels", numbers, len(classes)),
        ("images", np.concatenate([fitting, validating, judging]), len(numbers)),
    ):
        if not ((found >= 1) & (found <= most)).all():
            raise BadData(f"{place} names {what} outside 1 to {most} in its .mat files; get them again")
    parts = (
        _files.labelled(place / "jpg", {_file(image): classes[numbers[image - 1] - 1] for image in images}.get, classes)
        for images in (np.concatenate([fitting, validating]), judging)
    )
    return _files.data_of(KIND.name, _files.learned(*parts), image_size=image_size, limit=limit)


def _file(image: int) -> str:
    return f"image_{image:05d}.jpg"


def _classes() -> list[str]:
    from torchvision.datasets import Flowers102  # here, so that listing datasets stays quick

    return list(getattr(Flowers102, "classes", map(str, range(1, COUNT + 1))))  # older ones know their numbers alone


def _arrays(path: Path, *names: str) -> list[np.ndarray]:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
        return [np.asarray(content[name]).reshape(-1).astype(np.int64) for name in names]
    except Exception as error:  # what a damaged file makes scipy raise is not documented
        raise BadData(f"{path} cannot be read ({error}): get it again") from error
