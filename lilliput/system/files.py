"""Files written whole or not at all, read whole, set aside when damaged; and where Lilliput keeps its own."""

import errno
import io
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lilliput.errors import BadData, CannotWrite, LilliputError, Unreadable
from lilliput.system.progress import say

DRAFT = re.compile(r"\..+\.[0-9a-f]+\.tmp")
SECONDS_OF_A_DRAFT = 600  # far longer than a file takes to be written


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, and the next start after a crash, finds the old one or the new one whole."""
    with writing_whole(path) as file:
        file.write(content)


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """As `write_whole`, of what the block writes bit by bit; after an exception in it the old file is there."""
    draft = path.with_name(f".{path.name}.{by_chance()}.tmp")
    try:
        with open(draft, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync(path.parent)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    _tell(path)


_watches: dict[Path, Callable[[Path], None]] = {}
_unwatched = threading.local()


def watch(folder: Path, told: Callable[[Path], None]) -> None:
    """From here on `told` is called, in this process, with each file below the folder that was written or removed."""
    _watches[folder] = told


@contextmanager
def unwatched() -> Iterator[None]:
    """What this thread writes within is told to nobody."""
    before, _unwatched.on = getattr(_unwatched, "on", False), True
    try:
        yield
    finally:
        _unwatched.on = before


def _tell(path: Path) -> None:
    if _watches and not getattr(_unwatched, "on", False):
        for folder in path.absolute().parents:
            if folder in _watches:
                _watches[folder](path.absolute())


def remove(path: Path) -> None:
    """Remove a file that is no longer needed, wherever it is kept too."""
    path.unlink(missing_ok=True)
    _tell(path)


def by_chance() -> str:
    """A name's end that nobody else takes: numbers of processes are the same in the containers that share a disk."""
    return secrets.token_hex(8)


def append_whole(path: Path, lines: bytes) -> None:
    """Add lines to a file whose lines carry digests; after a torn one they begin anew."""
    try:
        with open(path, "r+b") as file:
            if end := file.seek(0, os.SEEK_END):
                file.seek(end - 1)
                lines = lines if file.read(1) == b"\n" else b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _not_written(path, error) from None
    _tell(path)


def _not_written(path: Path, error: OSError) -> LilliputError:
    return LilliputError(
        f"cannot write {path}: {error.strerror}; what was saved before is whole: "
        f"make room or give the right to write there, and the same command goes on"
    )


def sync(path: Path) -> None:
    """What the file or folder holds is on the disk when this returns."""
    if os.name == "nt":  # Windows opens no folders, and wants a writable handle for files
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_drafts(folder: Path) -> None:
    """Remove the temporary files that killed processes left, here or on another machine that shares the folder."""
    for draft in folder.glob(".*.tmp"):
        with suppress(OSError):
            if DRAFT.fullmatch(draft.name) and abs(time.time() - draft.stat().st_mtime) > SECONDS_OF_A_DRAFT:
                draft.unlink()


def set_aside(path: Path, why: str | BadData) -> None:
    """Rename a damaged file or folder, so that it is neither read nor lost; and say so.

    Raises the reason again where it is that nothing could be read: then it may be whole.
    """
    if isinstance(why, Unreadable):
        raise why
    new_path = free_name(path)
    path.rename(new_path)
    _tell(path)
    say(f"{path} is damaged ({why}): set aside as {new_path.name}")


def free_name(path: Path) -> Path:
    """A path beside a damaged file or folder for what was damaged, not taken yet."""
    number = 1
    while (free := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return free


def opened(path: str | os.PathLike) -> io.BufferedReader:
    """A regular file to read; OSError where it is none: a pipe would wait for ever, and a device has no end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, flags))  # noqa: SIM115  (the caller's to close)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "no regular file")


def read_whole(path: Path) -> bytes:
    """What a file holds; Unreadable where the system does not say."""
    try:
        with opened(path) as file:
            return file.read()
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from None


def home() -> Path:
    """Where stores and downloads live."""
    if chosen := os.environ.get("LILLIPUT_HOME"):
        return Path(os.path.expanduser(chosen))  # Path's own raises where there is no such user
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(os.path.expanduser(cache)) / "lilliput"
    try:
        return Path.home() / ".cache" / "lilliput"
    except RuntimeError:  # nobody knows this user, and there is no $HOME
        raise LilliputError("there is no home folder to keep data in; set $LILLIPUT_HOME to a folder") from None


def cannot_write(folder: Path, error: OSError) -> CannotWrite:
    """For when the disk that `home` is on is full or closed to the user."""
    reason = error.strerror or str(error)
    return CannotWrite(f"cannot write in {folder}: {reason}; make room there, or set $LILLIPUT_HOME to another folder")
