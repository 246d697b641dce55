"""Which test images a classifier has wrong, and what it takes them for: a short text beside its accuracy.

So two encoders that were judged on the same images are compared image by image.
"""

import base64
import zlib

import numpy as np
import pandas as pd

from lilliput.errors import BadData
from lilliput.studies.results import CELL


def written(taken: np.ndarray, truth: np.ndarray) -> str:
    """Class numbers [M] that images were taken for, and their true ones, as a text: `read` gives it back."""
    wrong = np.where(taken == truth, 0, np.asarray(taken) + 1).astype("<u4")
    planes = wrong.view(np.uint8).reshape(-1, 4).T  # the upper bytes, all 0, pack to nothing
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def read(text: str) -> np.ndarray:
    """int64 [M]: 0 for an image that is classified rightly, else one more than the number of the class that it is taken
    for. BadData where the text is no such thing."""
    try:
        planes = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), np.uint8).reshape(4, -1)
        return np.ascontiguousarray(planes.T).view("<u4")[:, 0].astype(np.int64)
    except (ValueError, zlib.error) as error:
        raise BadData(f"{text[:20]!r} in the column mistakes is not what was written ({error})") from None


def shares_right(rows: pd.DataFrame, picked: pd.DataFrame, epochs: pd.Series) -> np.ndarray | None:
    """[M]: of these seeds' encoders, `picked` with their `epochs`, the share that classify each test image rightly.

    None where one of them has no mistakes on record, as in the rows of an older Lilliput.
    """
    known = rows[(rows.probe == "linear") & (rows.mistakes != "")].set_index([*CELL, "epoch"]).mistakes
    cells = [(*cell, int(epoch)) for *cell, epoch in zip(*(picked[name] for name in CELL), epochs, strict=True)]
    if not set(cells) <= set(known.index):
        return None
    right = [read(known[cell]) == 0 for cell in cells]
    return np.mean(right, axis=0) if len({len(one) for one in right}) == 1 else None
