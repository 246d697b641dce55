"""Where the object is in an image: the masks of a store, or those in a file beside a labelled folder.

masks.npz beside train/ and test/ holds for each of the two `<split>_index` [n], the numbers that the images' file names
are, and `<split>_mask` [n, m]: squares of bits, row by row, eight to a byte.
"""

import math
import zipfile
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from lilliput.data.store import LARGEST_SIZE, Images, Subset
from lilliput.data.tree import names_of
from lilliput.errors import BadData

MOST_BYTES = 2**30  # of an archive, unpacked: a small one can hold any number of zeros

_beside: WeakKeyDictionary[Images, np.ndarray | None] = WeakKeyDictionary()  # by store, what lies beside its folder


def masks_of(images: Images) -> np.ndarray | None:
    """uint8 0 or 1 [N, H, H]; all 0 where an image has none, None where none are known of any."""
    if isinstance(images, Subset):
        masks = masks_of(images.store)
        return None if masks is None else masks[images.rows]
    if images.masks is not None:
        return images.masks
    if images not in _beside:
        _beside[images] = _read_beside(images)
    return _beside[images]


def has_masks(images: Images) -> bool:
    """Whether `masks_of` gives any; copies none."""
    return has_masks(images.store) if isinstance(images, Subset) else masks_of(images) is not None


def _read_beside(store: Images) -> np.ndarray | None:
    """As `masks_of`, from the file beside the folder that a store was made of."""
    folder = Path(store.manifest["source"])
    archive = folder.parent / "masks.npz"
    if not archive.is_file() or not folder.is_dir():
        return None
    try:
        index, packed = _arrays(archive, f"{folder.name}_index", f"{folder.name}_mask")
    except Exception as error:  # what a damaged archive makes numpy raise is not documented
        raise BadData(
            f"{archive} holds no masks of {folder.name} ({error}); see lilliput/data/masks.py, or move it"
        ) from None
    names = names_of(store)
    if names is None:  # the folder has changed since: which image a row is, nobody knows
        return None
    rows = {int(number): row for row, number in enumerate(index)}
    size, side = store.image_size, _side(packed)
    masks = np.zeros((len(store), size, size), dtype=np.uint8)
    nearest = (np.arange(size) * side) // size
    for place, name in enumerate(names):
        row = rows.get(_number(name))
        if row is not None:
            grid = np.unpackbits(packed[row], count=side * side).reshape(side, side)
            masks[place] = grid[nearest[:, None], nearest]
    return masks


def _side(packed: np.ndarray) -> int:
    """Of the squares of bits, in pixels."""
    return math.isqrt(packed.shape[1] * 8)


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
    if _side(packed) > LARGEST_SIZE:
        raise ValueError(f"squares of {_side(packed)} pixels, more than {LARGEST_SIZE}")
    return index, packed


def _number(name: str) -> int:
    """What the name of a file is, -1 where that is no number."""
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() else -1
