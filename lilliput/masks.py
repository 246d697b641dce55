"""Where the object is in an image: the masks of a store, or those in a file beside a labelled folder.

masks.npz beside train/ and test/ holds for each of the two `<split>_index` [n], the numbers that the images' file names
are, and `<split>_mask` [n, m]: squares of bits, row by row, eight to a byte.
"""

import functools
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.errors import BadData
from lilliput.store import Store, Subset


def masks_of(store: Store) -> np.ndarray | None:
    """uint8 0 or 1 [N, H, H]; all 0 where an image has none, None where no image has."""
    if isinstance(store, Subset):
        masks = masks_of(store.store)
        return None if masks is None else masks[store.rows]
    if store.masks is not None:
        return store.masks
    return _beside(store.manifest["source"], len(store), store.image_size)


@functools.lru_cache(maxsize=8)
def _beside(source: str, count: int, size: int) -> np.ndarray | None:
    from lilliput.datasets.folder import images_below

    folder = Path(source)
    file = folder.parent / "masks.npz"
    if not file.is_file() or not folder.is_dir():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            index, packed = arrays[f"{folder.name}_index"], arrays[f"{folder.name}_mask"]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise BadData(f"{file} holds no masks of {folder.name} ({error}); see lilliput/masks.py, or move it") from None
    side = math.isqrt(packed.shape[1] * 8)
    grids = np.unpackbits(packed, axis=1)[:, : side * side].reshape(-1, side, side)
    numbers = {int(number): row for row, number in enumerate(index)}
    files = images_below(folder)
    if len(files) != count:  # some could not be read: which, the store no longer knows
        return None
    masks = np.zeros((count, size, size), dtype=np.uint8)
    nearest = (np.arange(size) * side) // size
    for place, image in enumerate(files):
        row = numbers.get(_number(image))
        if row is not None:
            masks[place] = grids[row][nearest[:, None], nearest]
    return masks


def _number(file: Any) -> int:
    stem = Path(file.name).stem
    return int(stem) if stem.isdigit() else -1
