"""Files written whole or not at all, known by their digest, set aside when damaged; and folders that have one owner."""

import errno
import io
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lilliput.errors import BadData, BadSetting, LilliputError, Unreadable
from lilliput.system.progress import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


DRAFT = re.compile(r"\..+\.(\d+)\.tmp")
SECONDS_OF_A_DRAFT = 600  # far longer than a file takes to be written


# -- writing ----------------------------------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, and the next start after a crash, finds the old one or the new one whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from None


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
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> LilliputError:
    return LilliputError(
        f"cannot write {path}: {error.strerror}; what was saved before is whole: "
        f"make room or give the right to write there, and the same command goes on"
    )


def sync(path: Path) -> None:
    """What the file or folder holds is on the disk when this returns."""
    if os.name == "nt":  # Windows opens no folders, and wants a writable handle for files
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_drafts(folder: Path) -> None:
    """Remove the temporary files that killed processes left, here or on another machine that shares the folder."""
    for left in folder.glob(".*.tmp"):
        with suppress(OSError):
            if DRAFT.fullmatch(left.name) and abs(time.time() - left.stat().st_mtime) > SECONDS_OF_A_DRAFT:
                left.unlink()


def set_aside(path: Path, why: str | BadData) -> None:
    """Rename a damaged file or folder, so that it is neither read nor lost; and say so.

    Raises the reason again where it is that nothing could be read: then it may be whole.
    """
    if isinstance(why, Unreadable):
        raise why
    aside = free_name(path)
    path.rename(aside)
    say(f"{path} is damaged ({why}): set aside as {aside.name}")


def free_name(path: Path) -> Path:
    """For what was damaged in a file or folder: beside it, not taken yet."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


# -- reading ----------------------------------------------------------------------------------------------------------


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


# -- owners -----------------------------------------------------------------------------------------------------------


def has_locks() -> bool:
    """Whether `locked` and `alone` keep others out on this system."""
    return fcntl is not None


@contextmanager
def locked(folder: Path, *, waiting: str = "") -> Iterator[None]:
    """For a moment alone among the processes that ask for this folder; the others wait, and say `waiting`."""
    if fcntl is None:
        yield
        return
    with open(folder / ".lock", "w") as file:
        with suppress(OSError):  # some network file systems have none
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    say(waiting)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def unwritten(folder: Path) -> Iterator[None]:
    """For a moment none of those that ask for the folder by `locked` writes in it. Needs no right to write."""
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):  # nobody has written yet, or the file system has no locks
                fcntl.flock(stack.enter_context(open(folder / ".lock")), fcntl.LOCK_SH)
        yield


_held: set[Path] = set()  # folders that this process is alone in


class InUse(BadSetting):
    """Another process works on this."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The folder's only worker as long as the block runs; InUse where another process is. The lock dies with its owner,
    who may ask for it again within."""
    mine = folder.resolve()
    if fcntl is None or mine in _held:
        yield
        return
    with open(folder / ".owner", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise InUse(f"{folder} is in use by {owner}; wait for it, or choose another --out") from None
        except OSError:  # some network file systems have none
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        clear_drafts(folder)
        _held.add(mine)
        try:
            yield
        finally:
            _held.discard(mine)


def home() -> Path:
    """Where stores and downloads live."""
    if own := os.environ.get("LILLIPUT_HOME"):
        return Path(os.path.expanduser(own))  # Path's own raises where there is no such user
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache).expanduser() / "lilliput"
    return Path("~/.cache/lilliput").expanduser()
