"""Shards within reach: those of this machine where they lie, those of other places held on its disk while in use."""

import os
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, final

from lilliput.data.remote import bring
from lilliput.data.shards import Tar, state_of
from lilliput.errors import LilliputError, Unreadable
from lilliput.system.files import cannot_write, home, opened
from lilliput.system.locks import Claims, locked

NAME = "shard.tar"


@final
class Shelf:
    """At most `most_bytes` of shards from elsewhere stay on the disk, beside those in hand; the longest unused go.

    Several processes may share the folder: none removes what another has in hand, or, where the system has no locks
    to tell them by, what is removed while another reads it is read to its end.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._folder = home() / "shards"
        self._claims = Claims(self._folder)
        self._in_hand: Counter[str] = Counter()  # names of tars' folders: by how many readers, and for the windows
        self._windows: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def opened(self, tar: Tar) -> Iterator[BinaryIO]:
        """The tar to read, brought here first where it has to be; LilliputError where it is gone or has changed."""
        if tar.remote:
            name = tar.folder.name
            self._take([name])
            try:
                with self._opened_here(tar) as file:
                    yield file
            finally:
                self._take(let_go=[name])
            return
        try:
            file = opened(tar.source)
        except OSError as error:
            raise Unreadable(f"cannot read {tar.source}: {error.strerror}") from None
        with file:
            if state_of(file) != tar.state:
                raise Unreadable(f"{tar.source} has changed since its images were counted")
            yield file

    def _opened_here(self, tar: Tar) -> BinaryIO:
        while True:
            path = self.hold(tar)
            with suppress(FileNotFoundError):  # another process has made room meanwhile
                return opened(path)

    def hold(self, tar: Tar) -> Path:
        """Where a tar from elsewhere lies on this disk, brought here if need be."""
        path = tar.folder / NAME
        try:
            if not path.exists():
                tar.folder.mkdir(parents=True, exist_ok=True)
                with locked(tar.folder):
                    if not path.exists():  # nobody was quicker
                        assert tar.remote is not None
                        bring(tar.remote, path)
                self._make_room()
            with suppress(FileNotFoundError):
                os.utime(path)
        except OSError as error:
            raise cannot_write(tar.folder, error) from error
        return path

    def __reduce__(self):
        return Shelf, (self.most_bytes,)

    def take_in_hand(self, tars: Iterable[Tar]) -> None:
        """These stay until others are taken, and make room; their files are brought by whoever asks first."""
        names = {tar.folder.name for tar in tars if tar.remote}
        self._take(names, let_go=self._windows)
        self._windows = names
        if names:
            self._make_room()

    def _take(self, names: Collection[str] = (), *, let_go: Collection[str] = ()) -> None:
        """Have these in hand once more, and those once less."""
        with self._lock:
            new = [name for name in names if name not in self._in_hand]
            self._in_hand.update(names)
            self._in_hand.subtract(let_go)
            free = [name for name in let_go if not self._in_hand[name]]
            for name in free:
                del self._in_hand[name]
            if new or free:
                with self._alone():
                    self._claims.tell(self._in_hand)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Among the processes that share the folder; CannotWrite where it is closed."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder):
                yield
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def _make_room(self) -> None:
        """Remove what was unused for the longest time, until the rest is small enough."""
        with self._lock, self._alone():
            in_hand = self._in_hand.keys() | self._claims.of_others()
            held = []
            for path in self._folder.glob(f"*/{NAME}"):
                with suppress(OSError):
                    held.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            excess = sum(size for _, size, _ in held) - self.most_bytes
            for _, size, path in sorted(held):
                if excess > 0 and path.parent.name not in in_hand:
                    with suppress(OSError):
                        path.unlink()
                        excess -= size


def bring_all(shelf: Shelf, tars: Iterable[Tar]) -> None:
    """Those from elsewhere, one after the other; what stands in the way is told when they are read."""
    for tar in tars:
        with suppress(LilliputError):
            shelf.hold(tar)
