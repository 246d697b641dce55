"""A dataset at rest: square uint8 images in a memory map, labels, masks, and a manifest with their digest.

A store is a folder of images.npy [N, 3, H, H], labels.npy [N], masks.npy [N, H, H] and manifest.json. It is written
whole or not at all, and never changed afterwards.
"""

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np

from lilliput.data.manifest import digest_of, read_manifest, what_is_wrong
from lilliput.errors import BadData, BadSetting, Unreadable
from lilliput.system.files import home
from lilliput.system.records import read_json

if TYPE_CHECKING:
    import torch

DEFAULT_SIZE = 96
SMALLEST_SIZE, LARGEST_SIZE = 8, 2048


class Images(ABC):
    """Square images in the order of their rows, with labels and masks where they have them."""

    folder: Path  # of the store that they are from
    manifest: dict[str, Any]  # of that store
    digest: str  # of all that they hold, or of what a stream says of it
    streamed = False  # whether they are read from where they lie at every epoch anew
    passed_over: Mapping[int, str] = MappingProxyType({})  # row -> why it could not be read when its turn came
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
        """An epoch in whole batches [size, 3, H, H], from number `start` on, as `load` gives them; of several processes
        each gets its part of every batch.

        Their order is drawn from `rng` before this returns; `epoch` is for sources that need more than that.
        """
        import torch  # here, so that listing datasets stays quick

        from lilliput.data.feed import fed

        order = torch.randperm(len(self), generator=rng, device=rng.device)
        return fed(self, order, size, start, torch.device(device))

    def at_hand(self, rows: np.ndarray) -> np.ndarray:
        """As many rows as these, in their order, that cost no more to read than they must: here the same."""
        return rows

    def take(self, rows: Any) -> "Subset":
        """The images at these rows alone, in their order; `rows` as for `batch`."""
        return Subset(self, np.arange(len(self))[_row_numbers(rows)])


@final
class Store(Images):
    """A folder of images, opened by `open_store`; pickled by its path."""

    def __init__(self, folder: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.folder, self.manifest, self.digest = folder, manifest, manifest["digest"]
        self._images, self._labels, self._masks = arrays["images"], arrays.get("labels"), arrays.get("masks")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    @property
    def images(self) -> np.ndarray:
        """A memory map."""
        return self._images

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

    def take(self, rows: Any) -> "Subset":
        return Subset(self.store, self.rows[_row_numbers(rows)])

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
        """The labelled images, train and test; BadData where there are none, or too few to judge by."""
        if self.train is None or self.test is None:
            raise BadData(
                f"{self.name} has no labels to judge by: put images in folders called by their classes, or name "
                f"labelled images (--data, or --judge of a study); `lilliput pretrain` needs none"
            )
        if self.train.is_labelled and self.test.is_labelled:
            _refuse_one_sided(self.name, self.train, self.test)
        return self.train, self.test


def _refuse_one_sided(name: str, train: Images, test: Images) -> None:
    """BadData where a class is only on one side, or alone: an accuracy would say nothing."""
    learned, judged = (np.unique(images.labels) for images in (train, test))
    for these, those, why in (
        (judged, learned, "among the test images alone: nothing to learn it from"),
        (learned, judged, "among the training images alone: it cannot be judged"),
    ):
        if len(lacking := np.setdiff1d(these, those)):
            raise BadData(f"{name}: class {train.classes[lacking[0]]!r} is {why}; give it images there, or remove it")
    if len(learned) < 2:
        raise BadData(f"{name} has one class, {train.classes[learned[0]]!r}: every answer would be right; add another")


def open_store(folder: str | os.PathLike) -> Store:
    """The store in `folder`, read-only; BadData when it is missing, torn or of another format."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in manifest["shapes"]}
    except Exception as error:  # what a damaged file makes numpy raise is not documented
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise Unreadable(f"cannot read the store {folder}: {error.strerror}") from None
        raise BadData(f"the store {folder} is torn ({error}); remove it and prepare the data again") from error
    if "labels" in arrays:
        arrays["labels"] = np.array(arrays["labels"])  # small, and every probe reads all of them
    if wrong := what_is_wrong(manifest, arrays):
        raise BadData(f"the store {folder} is torn: {wrong}; remove it and prepare the data again")
    return Store(folder, manifest, arrays)


def store_at_rest(digest: str) -> Store | None:
    """The prepared store of this digest, checked; None where it does not lie here."""
    for manifest in sorted((home() / "stores").glob("*/manifest.json")):
        with suppress(BadData):  # of another store, it may be what it will
            if ".damaged-" not in manifest.parent.name and read_json(manifest).get("digest") == digest:
                return checked_store(manifest.parent)
    return None


def checked_store(folder: str | os.PathLike) -> Store:
    """As `open_store`; BadData too when a pixel or label is not what was written: a disk tells nobody of lost bits."""
    store = open_store(folder)
    named = {"images": store.images, "labels": store.labels if store.is_labelled else None, "masks": store.masks}
    arrays = {name: rows for name, rows in named.items() if rows is not None}
    if digest_of(arrays, f"checking {store.folder.name}") != store.digest:
        raise BadData(f"the store {store.folder} is damaged: its digest is not that of its images")
    return store


def spaced(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` of `count` rows, evenly spaced, so that every part of a sorted list is represented."""
    if limit is not None and limit < 1:
        raise BadSetting(f"limit {limit} leaves no image; give 1 or more, or leave it out for all")
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def chosen_size(image_size: int | None, own: int) -> int:
    """The side of the stored squares: as asked, else DEFAULT_SIZE, or the data's own when that is smaller."""
    if image_size is None:
        return max(SMALLEST_SIZE, min(DEFAULT_SIZE, own))
    if not SMALLEST_SIZE <= image_size <= LARGEST_SIZE:
        raise BadSetting(f"image size {image_size} is outside {SMALLEST_SIZE} to {LARGEST_SIZE} pixels")
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
