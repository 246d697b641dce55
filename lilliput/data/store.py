"""A dataset at rest: square uint8 images in a memory map, labels, masks, and a manifest with their digest.

A store is a folder of images.npy [N, 3, H, H], labels.npy [N], masks.npy [N, H, H] and manifest.json. It is written
whole or not at all, and never changed afterwards.
"""

import errno
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np

from lilliput.errors import BadData, BadSetting, Unreadable
from lilliput.system.progress import task
from lilliput.system.records import read_json

if TYPE_CHECKING:
    import torch


format_version = 1
default_size = 96
smallest_size, largest_size = 8, 2048
chunk_bytes = 1 << 24


class Images(ABC):
    """Square images in the order of their rows, with labels and masks where they have them."""

    folder: Path
    manifest: dict[str, Any]
    digest: str  # of all that they hold
    _labels: np.ndarray | None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def image_size(self) -> int: ...

    @property
    @abstractmethod
    def images(self) -> np.ndarray:
        """All of them, uint8 [N, 3, H, H]; `batch` reads a part."""

    @property
    @abstractmethod
    def masks(self) -> np.ndarray | None:
        """uint8 0 or 1 [N, H, H]."""

    @abstractmethod
    def batch(self, indices: Any) -> "torch.Tensor":
        """A copy in memory, uint8 [B, 3, H, H], of the images at `indices`: a slice, list, array or tensor."""

    @property
    def is_labelled(self) -> bool:
        return self._labels is not None

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], numbers of `classes`; BadData where there are none."""
        if self._labels is None:
            raise BadData(f"the images of {self.folder} have no labels: put them in train/<class>/ and test/<class>/")
        return self._labels

    @property
    def classes(self) -> list[str]:
        """Their names; BadData where there are none."""
        if self.manifest["classes"] is None:
            raise BadData(f"the images of {self.folder} have no classes: put them in train/<class>/ and test/<class>/")
        return self.manifest["classes"]

    def load(self, indices: Any, device: "str | torch.device") -> "torch.Tensor":
        """The images at `indices` on the device, float [B, 3, H, H] in 0..1."""
        return self.batch(indices).to(device, non_blocking=True).float().div_(255)

    def batches(
        self, size: int, device: "str | torch.device", epoch: int, rng: "torch.Generator", start: int = 0
    ) -> "Iterator[torch.Tensor]":
        """An epoch in whole batches [size, 3, H, H], from number `start` on, as `load` gives them.

        Their order is drawn from `rng` before this returns; `epoch` is for sources that need more than that.
        """
        import torch  # here, so that listing datasets stays quick

        order = torch.randperm(len(self), generator=rng, device=rng.device).cpu().numpy()
        firsts = range(start * size, len(self) // size * size, size)
        return (self.load(order[first : first + size], device) for first in firsts)

    def take(self, rows: Any) -> "Subset":
        """The images at these rows alone, in their order; `rows` as for `batch`."""
        return Subset(self, np.arange(len(self))[_row_numbers(rows)])


@final
class Store(Images):
    """A dataset at rest, opened read-only by `open_store`."""

    def __init__(self, folder: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.folder, self.manifest, self.digest = folder, manifest, manifest["digest"]
        self._images, self._labels, self._masks = (arrays.get(name) for name in ("images", "labels", "masks"))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    @property
    def images(self) -> np.ndarray:
        """A memory map."""
        return self._images  # type: ignore[return-value]

    @property
    def masks(self) -> np.ndarray | None:
        """A memory map."""
        return self._masks

    def batch(self, indices: Any) -> "torch.Tensor":
        import torch

        if isinstance(indices, slice):
            return torch.from_numpy(np.array(self.images[indices]))
        return torch.from_numpy(np.take(self.images, _row_numbers(indices), axis=0))

    def __reduce__(self):
        return open_store, (self.folder,)  # a pickled memory map would carry every pixel

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r}, {len(self)} images of {self.image_size} px)"


@final
class Subset(Images):
    """Some rows of other images; masks and labels go with them. Its digest is that of the whole and the rows."""

    def __init__(self, store: Images, rows: np.ndarray):
        self.store, self.rows = store, rows
        self.folder, self.manifest = store.folder, store.manifest
        self._labels = store.labels[rows] if store.is_labelled else None
        self.digest = hashlib.sha256(store.digest.encode() + rows.astype("<i8").tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_size(self) -> int:
        return self.store.image_size

    @property
    def images(self) -> np.ndarray:
        """A copy."""
        return self.store.images[self.rows]

    @property
    def masks(self) -> np.ndarray | None:
        masks = self.store.masks
        return None if masks is None else masks[self.rows]

    def batch(self, indices: Any) -> "torch.Tensor":
        return self.store.batch(self.rows[_row_numbers(indices)])

    def __reduce__(self):
        return Subset, (self.store, self.rows)

    def __repr__(self) -> str:
        return f"{len(self)} of {self.store!r}"

    @property
    def origin(self) -> dict[str, Any]:
        """What names it to others: the store's digest, and the rows that are left out."""
        return {"digest": self.store.digest, "left_out": np.setdiff1d(np.arange(len(self.store)), self.rows).tolist()}


class Data(NamedTuple):
    """What a dataset's `prepare` gives: images to learn from, and labelled ones to judge with."""

    name: str
    pool: Images
    train: Images | None
    test: Images | None

    @property
    def judging(self) -> tuple[Images, Images]:
        """The labelled images, train and test; BadData where there are none."""
        if self.train is None or self.test is None:
            raise BadData(
                f"{self.name} has no labels to judge by: put images in train/<class>/ and test/<class>/, or name other "
                f"labelled images (study --judge, probe --data)"
            )
        return self.train, self.test


def open_store(folder: str | os.PathLike) -> Store:
    """The store in `folder`; BadData when it is missing, torn or of another format."""
    folder = Path(folder)
    manifest = _read_manifest(folder)
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in manifest["shapes"]}
    except Exception as error:  # what a damaged file makes numpy raise is not documented
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise Unreadable(f"cannot read the store {folder}: {error.strerror}") from None
        raise BadData(f"the store {folder} is torn ({error}); remove it and prepare the data again") from error
    if "labels" in arrays:
        arrays["labels"] = np.array(arrays["labels"])  # small, and every probe reads all of them
    if wrong := _wrong(manifest, arrays):
        raise BadData(f"the store {folder} is torn: {wrong}; remove it and prepare the data again")
    return Store(folder, manifest, arrays)


def checked_store(folder: str | os.PathLike) -> Store:
    """As `open_store`, after every pixel and label has been compared with the digest."""
    store = open_store(folder)
    _check_digest(store)
    return store


def fingerprint(key: Any) -> str:
    """A short digest of anything that JSON can write; changes with the format of stores."""
    text = json.dumps([format_version, key], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def spaced(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` of `count` rows, evenly spaced, so that every part of a sorted list is represented."""
    if limit is not None and limit < 1:
        raise BadSetting(f"limit {limit} leaves no image; give 1 or more, or leave it out for all")
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def chosen_size(image_size: int | None, own: int) -> int:
    """The side of the stored squares: as asked, else `default_size`, or the data's own when that is smaller."""
    if image_size is None:
        return max(smallest_size, min(default_size, own))
    if not smallest_size <= image_size <= largest_size:
        raise BadSetting(f"image size {image_size} is outside {smallest_size} to {largest_size} pixels")
    return image_size


def _row_numbers(indices: Any) -> Any:
    """What numpy can index by: a slice as it is, anything else as an array of whole numbers."""
    if isinstance(indices, slice):
        return indices
    if hasattr(indices, "cpu"):  # a tensor, wherever it lies
        indices = indices.cpu().numpy()
    indices = np.asarray(indices)
    if indices.dtype == bool:
        return np.flatnonzero(indices)
    return indices if len(indices) else indices.astype(np.int64)  # numpy takes an empty list for floats


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / "manifest.json").is_file():
        raise BadData(f"no store in {folder}; prepare the data first")
    manifest = read_json(folder / "manifest.json")
    found = manifest.get("format")
    if found != format_version:
        raise BadData(f"the store {folder} has format {found!r}, this version reads {format_version}; prepare again")
    missing = {"name", "split", "source", "image_size", "count", "classes", "digest", "shapes", "skipped"} - set(
        manifest
    )
    if missing:
        raise BadData(f"the store {folder} is torn: its manifest lacks {', '.join(sorted(missing))}; prepare again")
    kinds: dict[str, Any] = dict.fromkeys(("name", "split", "source", "digest"), str)
    kinds |= {"shapes": dict, "skipped": list, "classes": list | None}
    if odd := [name for name, kind in kinds.items() if not isinstance(manifest[name], kind)]:
        raise BadData(f"the store {folder} is torn: its manifest's {odd[0]} is {manifest[odd[0]]!r}; prepare again")
    if strange := sorted(set(manifest["shapes"]) - {"images", "labels", "masks"}):
        raise BadData(f"the store {folder} is torn: its manifest names an array {strange[0]!r}; prepare again")
    return manifest


def _wrong(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> str | None:
    """What about the arrays cannot be, or None."""
    if "images" not in arrays:
        return "it has no images"
    images, labels, classes = arrays["images"], arrays.get("labels"), manifest["classes"]
    count, size = len(images) if images.ndim else 0, images.shape[-1] if images.ndim else 0
    shapes = {"images": (count, 3, size, size), "labels": (count,), "masks": (count, size, size)}
    for name, array in arrays.items():
        kind = np.int64 if name == "labels" else np.uint8
        if list(array.shape) != manifest["shapes"][name] or array.shape != shapes[name] or array.dtype != kind:
            return f"{name}.npy is {array.dtype} {list(array.shape)}"
    if not images.size:
        return "it is empty"
    if labels is not None and classes is not None and not (labels.min() >= 0 and labels.max() < len(classes)):
        return f"labels from {labels.min()} to {labels.max()} for {len(classes)} classes"
    if classes is not None and not all(isinstance(name, str) for name in classes):
        return "its classes are no names"
    return None


def digest_of(arrays: dict[str, np.ndarray], what: str) -> str:
    digest = hashlib.sha256()
    with task(what, sum(len(rows) for rows in arrays.values())) as advance:
        for name in sorted(arrays):
            rows = arrays[name]
            digest.update(f"{name} {rows.dtype} {rows.shape}".encode())
            step = _rows_per_chunk(rows)
            for start in range(0, len(rows), step):
                chunk = np.ascontiguousarray(rows[start : start + step])
                digest.update(chunk.data)
                advance(len(chunk))
    return digest.hexdigest()


def _check_digest(store: Store) -> None:
    """BadData unless every pixel and label is what was written: a disk that loses bits tells nobody."""
    named = {"images": store.images, "labels": store.labels if store.is_labelled else None, "masks": store.masks}
    arrays = {name: rows for name, rows in named.items() if rows is not None}
    if digest_of(arrays, f"checking {store.folder.name}") != store.digest:
        raise BadData(f"the store {store.folder} is damaged: its digest is not that of its images")


def _rows_per_chunk(rows: np.ndarray) -> int:
    return max(1, chunk_bytes // max(1, rows[:1].nbytes))
