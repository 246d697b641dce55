"""EuroSAT: 27,000 satellite images of ten kinds of land, 64 x 64 pixels of ten metres, red, green and blue.

Helber, Bischke, Dengel, Borth, IEEE JSTARS 2019, https://arxiv.org/abs/1709.00029. It has no split: a fifth of each
class, drawn always alike, tests.
"""

import os

from lilliput.data.store import Data
from lilliput.datasets import _fetched, _files

REMOTE = _fetched.Remote(
    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
    "c8fa014336c82ac7804f0398fcb19387",
    most_bytes=120_000_000,
    unpacked_bytes=200_000_000,
)
KIND = _fetched.Kind("eurosat", [REMOTE], "2750", ["AnnualCrop", "SeaLake"])


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of EuroSAT, from `folder`, else from a download; the training images are the pool."""
    whole = _files.labelled(_fetched.place_of(KIND, folder), lambda file: file.partition("/")[0])
    return _files.data_of(KIND.name, _files.learned(whole), image_size=image_size, limit=limit)
