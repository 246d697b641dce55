"""Where the object is in an image: the masks of a store, or those in a file beside a labelled folder.

masks.npz beside train/ and test/ holds for each of the two `<split>_index` [n], the numbers that the images' file names
are, and `<split>_mask` [n, m]: squares of bits, row by row, eight to a byte.
"""

import functools
import math
import zipfile
from pathlib import Path

import numpy as np

from lilliput.data.store import Images, Subset
from lilliput.data.tree import File, images_below
from lilliput.errors import BadData

MOST_BYTES = 2**30  # of an archive, unpacked: a small one can hold any number of zeros


def masks_of(store: Images) -> np.ndarray | None:
    """uint8 0 or 1 [N, H, H]; all 0 where an image has none, None where no image has."""
    if isinstance(store, Subset):
        masks = masks_of(store.store)
        return None if masks is None else masks[store.rows]
    if store.masks is not None:
        return store.masks
    return _beside(store.manifest["source"], len(store), store.image_size)


@functools.lru_cache(maxsize=8)
def _beside(source: str, count: int, size: int) -> np.ndarray | None:
    """As `masks_of`, from the file beside the folder that a store was made of."""
    folder = Path(source)
    archive = folder.parent / "masks.npz"
    if not archive.is_file() or not folder.is_dir():
        return None
    try:
        index, packed = _arrays(archive, f"{folder.name}_index", f"{folder.name}_mask")
    except Exception as error:  # what a damaged archive makes numpy raise is not documented
        raise BadData(
            f"{archive} holds no masks of {folder.name} ({error}); see lilliput/data/masks.py, or move it"
        ) from None
    side = math.isqrt(packed.shape[1] * 8)
    grids = np.unpackbits(packed, axis=1)[:, : side * side].reshape(-1, side, side)
    rows = {int(number): row for row, number in enumerate(index)}
    files = images_below(folder)
    if len(files) != count:  # some could not be read: which, the store no longer knows
        return None
    masks = np.zeros((count, size, size), dtype=np.uint8)
    nearest = (np.arange(size) * side) // size
    for place, file in enumerate(files):
        row = rows.get(_number(file))
        if row is not None:
            masks[place] = grids[row][nearest[:, None], nearest]
    return masks


def _arrays(path: Path, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays of these names, of the kinds and shapes that they must have."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(archive.getinfo(f"{name}.npy").file_size for name in names)
    if unpacked > MOST_BYTES:
        raise ValueError(f"{unpacked >> 20} MiB")
    with np.load(path, allow_pickle=False) as arrays:
        index, packed = (arrays[name] for name in names)
    if index.dtype.kind not in "iu" or packed.dtype != np.uint8 or packed.ndim != 2 or not packed.shape[1]:
        raise ValueError(f"{index.dtype} {index.shape} and {packed.dtype} {packed.shape}")
    if index.shape != packed.shape[:1]:
        raise ValueError(f"{index.shape} numbers for {len(packed)} masks")
    return index, packed


def _number(file: File) -> int:
    """What its name is, -1 where that is no number."""
    stem = Path(file.name).stem
    return int(stem) if stem.isdecimal() else -1
