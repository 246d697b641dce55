"""Folders that one process at a time works in: for a moment, or as long as it runs. Locks die with their owners."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lilliput.system.files import clear_drafts
from lilliput.system.mirror import InUse, mirror_of
from lilliput.system.progress import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[Path] = set()  # folders that this process is alone in


def has_locks() -> bool:
    """Whether `locked` and `alone` keep others out on this system."""
    return fcntl is not None


@contextmanager
def locked(folder: Path, *, waiting: str = "") -> Iterator[None]:
    """For a moment alone among the processes that ask for this folder; the others wait, and say `waiting`."""
    with ExitStack() as stack:
        if fcntl is not None:
            file = stack.enter_context(open(folder / ".lock", "w", encoding="utf-8"))
            with suppress(OSError):  # some network file systems have none
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if waiting:
                        say(waiting)
                    fcntl.flock(file, fcntl.LOCK_EX)
        stack.enter_context(leased(folder, ".lock.lease", waiting=True))
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
    if place in _held:
        yield
        return
    with ExitStack() as stack:
        if fcntl is not None:
            _own(stack.enter_context(open(folder / ".owner", "a+", encoding="utf-8")), folder)
        _held.add(place)
        stack.callback(_held.discard, place)
        stack.enter_context(leased(folder, ".lease", waiting=False))
        yield


def _own(file: TextIO, folder: Path) -> None:
    """Lock the file and sign it; InUse where another process has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        raise InUse(f"{folder} is in use by {owner}; wait for it, or choose another --out") from None
    except OSError:  # some network file systems have none
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    clear_drafts(folder)


@contextmanager
def leased(folder: Path, name: str, *, waiting: bool) -> Iterator[None]:
    """Where the folder is the mirror of one in a store, alone in that too, and with what is there by now."""
    if (mirror := mirror_of(folder)) is None:
        yield
        return
    with mirror.leased(folder, name, waiting=waiting, below=not waiting):
        if not waiting and folder.absolute() != mirror.root:
            with locked(mirror.root):  # with the rows of what others did meanwhile
                pass
        yield
