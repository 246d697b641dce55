"""Writing a store: whole or not at all, under a name that its contents determine."""

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lilliput.errors import BadData, LilliputError
from lilliput.system.files import set_aside, sync
from lilliput.system.progress import say
from lilliput.system.records import write_json

if TYPE_CHECKING:
    pass

from lilliput.data.store import (
    Store,
    _rows_per_chunk,
    checked_store,
    digest_of,
    fingerprint,
    format_version,
    open_store,
)
from lilliput.system.files import home

seconds_until_abandoned = 24 * 3600

Fill = Callable[[np.ndarray, np.ndarray | None], dict[int, dict[str, str]] | None]


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
) -> Store:
    """Write a store whole, or leave nothing.

    `fill(images, masks)` writes all rows of two arrays of zeros, [count, 3, H, H] and [count, H, H] (None without
    masks). It may return the rows it had to give up, {row: {"file": ..., "reason": ...}}: those are left out.
    """
    if count < 1:
        raise BadData(f"no images in {source}")
    if labels is not None and len(labels) != count:
        raise BadData(f"{len(labels)} labels for {count} images in {source}")
    folder = Path(folder)
    shapes: dict[str, tuple[int, ...]] = {"images": (count, 3, image_size, image_size)}
    if masks:
        shapes["masks"] = (count, image_size, image_size)
    with _whole_or_nothing(folder) as draft:
        arrays = {array: _zeros(draft / f"{array}.npy", shape) for array, shape in shapes.items()}
        try:
            skipped = fill(arrays["images"], arrays.get("masks")) or {}
        except OSError as error:
            raise BadData(f"cannot read {source}: {error}") from error
        kept = np.setdiff1d(np.arange(count), list(skipped))
        _report(skipped, count, source)
        if skipped:
            arrays = {array: _only(draft / f"{array}.npy", rows, kept) for array, rows in arrays.items()}
        if labels is not None:
            arrays["labels"] = np.asarray(labels, dtype=np.int64)[kept]
            np.save(draft / "labels.npy", arrays["labels"])
        manifest = {
            "format": format_version,
            "name": name,
            "split": split,
            "source": source,
            "image_size": image_size,
            "count": len(kept),
            "classes": None if classes is None else list(classes),
            "digest": digest_of(arrays, f"checking {name} {split}"),
            "shapes": {array: list(rows.shape) for array, rows in arrays.items()},
            "skipped": [skipped[row] for row in sorted(skipped)],
        }
        write_json(draft / "manifest.json", manifest)
        for rows in arrays.values():
            if isinstance(rows, np.memmap):
                rows.flush()
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


def cannot_write(folder: Path, error: OSError) -> LilliputError:
    """What to tell the user when the disk is full or closed to them."""
    reason = error.strerror or str(error)
    return LilliputError(
        f"cannot write in {folder}: {reason}; make room there, or set $LILLIPUT_HOME to another folder"
    )


def _place(name: str, split: str, key: Any) -> Path:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60]
    return home() / "stores" / f"{plain}-{split}-{fingerprint(key)}"


@contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise."""
    draft = folder.parent / f".{folder.name}.{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
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
    for left in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - left.stat().st_mtime > seconds_until_abandoned:
            shutil.rmtree(left, ignore_errors=True)


def _zeros(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new memory map whose room on the disk is really there: a full disk found later would kill the process."""
    free = shutil.disk_usage(path.parent).free
    wanted = int(np.prod(shape))
    if wanted > free:
        raise OSError(errno.ENOSPC, f"{wanted / 2**30:.1f} GiB wanted, {free / 2**30:.1f} GiB free")
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _only(path: Path, rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Replace the memory map at `path` by one that holds the `kept` rows only."""
    shorter = _zeros(path.with_suffix(".kept"), (len(kept), *rows.shape[1:]))
    step = _rows_per_chunk(rows)
    for start in range(0, len(kept), step):
        shorter[start : start + step] = rows[kept[start : start + step]]
    path.with_suffix(".kept").replace(path)
    return shorter


def _report(skipped: dict[int, dict[str, str]], count: int, source: str) -> None:
    if not skipped:
        return
    first = skipped[min(skipped)]
    named = f"{first['file']!r} ({first['reason']})"
    if len(skipped) == count:
        raise BadData(f"none of the {count} images in {source} can be read; the first, {named}")
    say(f"skipped {len(skipped)} of {count} images in {source}: {named}{' ...' if len(skipped) > 1 else ''}")
