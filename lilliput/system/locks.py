"""Folders that one process at a time works in: for a moment, or as long as it runs. Locks die with their owners."""

import os
import socket
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO, final

from lilliput.system.files import by_chance, clear_drafts
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


@final
class Claims:
    """Names that processes claim in a folder, each in a file of its own that stays locked until it ends.

    For who has the folder `locked`. Where the system has no locks, nobody knows of others.
    """

    def __init__(self, folder: Path):
        self._path = folder / f".{by_chance()}.claims"
        self._file: TextIO | None = None

    def tell(self, names: Iterable[str]) -> None:
        """These are claimed, in place of those before."""
        if fcntl is None:
            return
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8")  # noqa: SIM115  (closed when nobody has `self` any more)
            weakref.finalize(self, _withdraw, self._file, self._path)
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.seek(0)
        self._file.truncate()
        self._file.write("\n".join(names))
        self._file.flush()

    def of_others(self) -> set[str]:
        """What those that live claim; the files of others are removed."""
        files = [] if fcntl is None else self._path.parent.glob(".*.claims")
        return {name for path in files if path != self._path for name in _claimed(path)}


def _withdraw(file: TextIO, path: Path) -> None:
    file.close()
    with suppress(OSError):
        path.unlink()


def _claimed(path: Path) -> list[str]:
    with suppress(OSError), open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().split()
        path.unlink()
    return []
