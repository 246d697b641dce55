"""Writing a store: whole or not at all, under a name that its contents determine."""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.data.manifest import FORMAT_VERSION, digest_of, fingerprint, rows_per_chunk
from lilliput.data.store import Store, checked_store, open_store
from lilliput.errors import BadData
from lilliput.system.files import by_chance, cannot_write, home, set_aside, sync
from lilliput.system.progress import say
from lilliput.system.records import write_json

SECONDS_UNTIL_ABANDONED = 24 * 3600

Skipped = dict[int, dict[str, str]]  # rows that had to be given up: {row: {"file": ..., "reason": ...}}
Fill = Callable[[np.ndarray, np.ndarray | None], Skipped | None]


def write_store(
    folder: str | os.PathLike,
    *,
    name: str,
    split: str,
    source: str,
    image_size: int,
    count: int,
    fill: Fill,
    labels: Sequence[int] | np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    masks: bool = False,
    labels_from: str | None = None,
) -> Store:
    """Write a store whole, or leave nothing; BadData where nothing of it can be read.

    `fill(images, masks)` writes all rows of two arrays of zeros, uint8 [count, 3, H, H] and [count, H, H] (None
    without masks). It may return the rows it had to give up: those are left out. `labels_from`: a table of classes.
    """
    if count < 1:
        raise BadData(f"no images in {source}")
    if labels is not None and len(labels) != count:
        raise BadData(f"{len(labels)} labels for {count} images in {source}")
    folder = Path(folder)
    with _whole_or_nothing(folder) as draft:
        arrays = _zeros_for(draft, count, image_size, masks)
        skipped = _filled(arrays, fill, source)
        _report(skipped, count, source)
        rows = np.setdiff1d(np.arange(count), list(skipped))
        if skipped:
            arrays = {array: _only(draft / f"{array}.npy", whole, rows) for array, whole in arrays.items()}
        if labels is not None:
            arrays["labels"] = np.asarray(labels, dtype=np.int64)[rows]
            np.save(draft / "labels.npy", arrays["labels"])
        manifest = {
            "format": FORMAT_VERSION,
            "name": name,
            "split": split,
            "source": source,
            "image_size": image_size,
            "count": len(rows),
            "classes": None if classes is None else list(classes),
            "digest": digest_of(arrays, f"checking {name} {split}"),
            "shapes": {array: list(values.shape) for array, values in arrays.items()},
            "skipped": [skipped[row] for row in sorted(skipped)],
            **({} if labels_from is None else {"labels_from": labels_from}),
        }
        write_json(draft / "manifest.json", manifest)
        for values in arrays.values():
            if isinstance(values, np.memmap):
                values.flush()
    return open_store(folder)


def prepared(*, name: str, split: str, key: Any, **contents: Any) -> Store:
    """The store of this name, split and key: the one at rest, else written now by `write_store(**contents)`.

    `key` is everything that determines the content, as JSON can write it.
    """
    store = at_rest(name=name, split=split, key=key)
    return store or write_store(_place(name, split, key), name=name, split=split, **contents)


def at_rest(*, name: str, split: str, key: Any) -> Store | None:
    """The store that `prepared` wrote earlier; None when it has yet to."""
    folder = _place(name, split, key)
    if not folder.exists():
        return None
    try:
        return checked_store(folder)
    except BadData as error:  # to be written again
        with suppress(OSError):  # another process was quicker, or nothing may be written: that is said later
            set_aside(folder, error)
        return None


def _place(name: str, split: str, key: Any) -> Path:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60]
    return home() / "stores" / f"{plain}-{split}-{fingerprint(key)}"


@contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise."""
    draft = folder.parent / f".{folder.name}.{by_chance()}"
    try:
        _remove_abandoned(folder)
        draft.mkdir(parents=True)
        yield draft
        for path in [*draft.iterdir(), draft]:
            sync(path)
        _take_place(draft, folder)
        sync(folder.parent)
    except OSError as error:
        raise cannot_write(folder.parent, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _take_place(draft: Path, folder: Path) -> None:
    """Rename `draft` to `folder`; another process's whole store there wins, a torn one makes way."""
    if folder.exists():
        try:
            open_store(folder)
            return
        except BadData as error:
            say(f"writing it anew, as {error}")
            folder.rename(draft / "torn")
    try:
        draft.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        open_store(folder)  # somebody was quicker
    shutil.rmtree(folder / "torn", ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left behind; a live one touches its folder far more often than daily."""
    for draft in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - draft.stat().st_mtime > SECONDS_UNTIL_ABANDONED:
            shutil.rmtree(draft, ignore_errors=True)


def _zeros_for(draft: Path, count: int, size: int, masks: bool) -> dict[str, np.ndarray]:
    """The arrays that `fill` fills."""
    arrays = {"images": _zeros(draft / "images.npy", (count, 3, size, size))}
    if masks:
        arrays["masks"] = _zeros(draft / "masks.npy", (count, size, size))
    return arrays


def _zeros(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new memory map whose room on the disk is really there: a full disk found later would kill the process."""
    free = shutil.disk_usage(path.parent).free
    needed = int(np.prod(shape))
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 2**30:.1f} GiB wanted, {free / 2**30:.1f} GiB free")
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _filled(arrays: dict[str, np.ndarray], fill: Fill, source: str) -> Skipped:
    try:
        return fill(arrays["images"], arrays.get("masks")) or {}
    except OSError as error:
        raise BadData(f"cannot read {source}: {error}") from error


def _only(path: Path, whole: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Replace the memory map at `path` by one that holds these rows of it only."""
    new_path = path.with_suffix(".kept")
    shorter = _zeros(new_path, (len(rows), *whole.shape[1:]))
    step = rows_per_chunk(whole)
    for start in range(0, len(rows), step):
        shorter[start : start + step] = whole[rows[start : start + step]]
    new_path.replace(path)
    return shorter


def _report(skipped: Skipped, count: int, source: str) -> None:
    if not skipped:
        return
    first = skipped[min(skipped)]
    example = f"{first['file']!r} ({first['reason']})"
    if len(skipped) == count:
        raise BadData(f"none of the {count} images in {source} can be read; the first, {example}")
    say(f"skipped {len(skipped)} of {count} images in {source}: {example}{' ...' if len(skipped) > 1 else ''}")
