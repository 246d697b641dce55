"""What Imagenette and Imagewoof have in common: ten classes of ImageNet in train/ and val/, folders called by WordNet.

Howard, https://github.com/fastai/imagenette. Their images come from ImageNet: research use.
"""

import os
from collections.abc import Mapping

from lilliput.data.store import Data
from lilliput.datasets import _fetched, _files


def kind(name: str, md5: str) -> _fetched.Kind:
    """Images whose shorter side is 160 pixels."""
    url = f"https://s3.amazonaws.com/fast-ai-imageclas/{name}2-160.tgz"
    remote = _fetched.Remote(url, md5, most_bytes=150_000_000, unpacked_bytes=200_000_000)
    return _fetched.Kind(name, [remote], f"{name}2-160", ["train", "val"])


def prepare(
    kind: _fetched.Kind,
    classes: Mapping[str, str],
    *,
    folder: str | os.PathLike | None,
    image_size: int | None,
    limit: int | None,
) -> Data:
    """Stores of one of the two; its training images are the pool, and its validation images test."""
    place = _fetched.place_of(kind, folder)
    train, test = (
        _files.labelled(place / split, lambda file: classes.get(file.split("/")[0]), list(classes.values()))
        for split in ("train", "val")
    )
    return _files.data_of(kind.name, _files.learned(train, test), image_size=image_size, limit=limit)
