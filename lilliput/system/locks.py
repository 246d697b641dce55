"""Folders that one process at a time works in: for a moment, or as long as it runs. Locks die with their owners."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lilliput.errors import BadSetting
from lilliput.system.files import clear_drafts
from lilliput.system.progress import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[Path] = set()  # folders that this process is alone in


class InUse(BadSetting):
    """Another process works on this."""


def has_locks() -> bool:
    """Whether `locked` and `alone` keep others out on this system."""
    return fcntl is not None


@contextmanager
def locked(folder: Path, *, waiting: str = "") -> Iterator[None]:
    """For a moment alone among the processes that ask for this folder; the others wait, and say `waiting`."""
    if fcntl is None:
        yield
        return
    with open(folder / ".lock", "w", encoding="utf-8") as file:
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
                fcntl.flock(stack.enter_context(open(folder / ".lock", "rb")), fcntl.LOCK_SH)
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The folder's only worker as long as the block runs, who may ask again within; InUse where another process is."""
    place = folder.resolve()
    if fcntl is None or place in _held:
        yield
        return
    with open(folder / ".owner", "a+", encoding="utf-8") as file:
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
        _held.add(place)
        try:
            yield
        finally:
            _held.discard(place)
