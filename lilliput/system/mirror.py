"""A run or study in an object store: worked on in a folder here, every file of which is sent as soon as it is whole.

Who works in a folder holds its lease, an object that a conditional write makes, renewed while the work goes on; what he
sends is on condition that nobody wrote since he last saw it, so that who lost a lease without noticing overwrites
nothing. A lease that was not renewed for SECONDS_OF_A_LEASE, by the store's clock, is anybody's.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lilliput.errors import BadSetting, LilliputError
from lilliput.system import files
from lilliput.system.bucket import SCHEME, Bucket, Conflict
from lilliput.system.files import by_chance, home, write_whole
from lilliput.system.records import json_digest

MARK, SEEN = ".lilliput-mirror", ".seen"  # in the folder here: whose mirror it is, and the version of each file seen
SECONDS_OF_A_LEASE, RENEWALS = 60.0, 4
LONGEST_WAIT = 1.0  # seconds between two tries for a lease


class InUse(BadSetting):
    """Another process works on this."""


def here(place: str | os.PathLike) -> Path:
    """The folder of a run or study by its path, or by its address in a store: then that of its mirror, up to date."""
    name = os.fspath(place)
    if name.startswith("file://"):
        return Path(name.removeprefix("file://"))
    if "://" not in name:
        return Path(place)
    if not name.startswith(SCHEME):
        raise BadSetting(f"{name}: results are kept in folders and in s3://BUCKET/FOLDER (others: mount them)")
    url = name.rstrip("/")
    root = home() / "mirrors" / json_digest(url)[:16] / url.rpartition("/")[2]
    root.mkdir(parents=True, exist_ok=True)
    if not (root / MARK).exists():
        _mark(root, url)
    refresh(root)
    return root


def _mark(root: Path, url: str) -> None:
    """Say whose mirror the folder is; of processes that begin it together, the first to say so says it for all."""
    draft = root / f"{MARK}.{by_chance()}.tmp"
    write_whole(draft, json.dumps({"url": url, "owner": by_chance()}).encode())
    try:
        os.link(draft, root / MARK)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        draft.replace(root / MARK)
    draft.unlink(missing_ok=True)


def refresh(folder: Path) -> None:
    """Bring what others did meanwhile, where the folder is a mirror."""
    if mirror := mirror_of(folder):
        mirror.bring(folder)


def mirror_of(folder: Path) -> "Mirror | None":
    """The mirror that a folder is in, here or in one around it."""
    folder = folder.absolute()
    root = next((place for place in (folder, *folder.parents) if (place / MARK).is_file()), None)
    return None if root is None else _mirror(root)


@cache
def _mirror(root: Path) -> "Mirror":
    mirror = Mirror(root)
    files.watch(root, mirror.sent)
    return mirror


class _Lease:
    """One that this process holds, or held."""

    def __init__(self, name: str, version: str, asked: float):
        self.name, self.version, self.renewed = name, version, asked
        self.lost, self.over = False, threading.Event()

    @property
    def holds(self) -> bool:
        return not self.lost and time.monotonic() - self.renewed < SECONDS_OF_A_LEASE


class Mirror:
    """A folder of a store, and the folder here that it is worked on in."""

    def __init__(self, root: Path):
        said = json.loads((root / MARK).read_bytes())
        self.root, self.bucket, self.owner = root, Bucket(said["url"]), said["owner"]
        self._held: dict[tuple[Path, str], _Lease] = {}
        (root / SEEN).mkdir(exist_ok=True)

    # What is where

    def bring(self, folder: Path, *, below: bool = True, leased: bool = False) -> dict[str, str]:
        """Make what has changed in the store's folder, and those below, so here too; name -> version of all there.

        What was written here since it was last seen stays; under a lease it goes where it was written there as well.
        """
        there = self.bucket.versions(self._prefix(folder), below=below)
        for name, version in there.items():
            path, seen = self.root / name, self._seen(name)
            if not _is_shared(name) or (seen.get("version") == version and path.exists()):
                continue
            if (found := self.bucket.read(name)) is None:
                continue
            if not leased and path.exists() and _state(path) != self._seen(name).get("state"):
                continue  # another process of this machine is at work on it
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.unwatched():
                write_whole(path, found.content)
            self._note(path, found.version)
        return there

    def pull(self, folder: Path, *, below: bool) -> None:
        """As `bring`; and what went there goes here, what was written here alone is sent. Under a lease."""
        there = self.bring(folder, below=below, leased=True)
        for path in sorted(folder.rglob("*") if below else folder.glob("*")):
            name = self._name(path)
            if not path.is_file() or not _is_shared(name):
                continue
            seen = self._seen(name)
            if name not in there and seen:
                path.unlink()
                self._forget(name)
            elif _state(path) != seen.get("state"):
                self._send(path, only=seen.get("version", ""))

    def sent(self, path: Path) -> None:
        """Send a file that was written, or remove one that was removed, before the work goes on."""
        name = self._name(path)
        if not _is_shared(name):
            return
        lease = next((lease for (place, _), lease in self._held.items() if place in path.parents), None)
        if lease and not lease.holds:
            raise _taken(self.bucket, name)
        if not path.exists():
            self.bucket.remove(name)
            self._forget(name)
            return
        self._send(path, only=self._seen(name).get("version", "") if lease else None)

    def _send(self, path: Path, *, only: str | None) -> None:
        name = self._name(path)
        try:
            state = _state(path)
            self._note(path, self.bucket.write(name, path.read_bytes(), only=only), state)
        except Conflict:
            raise _taken(self.bucket, name) from None

    def _name(self, path: Path) -> str:
        return path.absolute().relative_to(self.root).as_posix()

    def _prefix(self, folder: Path) -> str:
        return "" if folder.absolute() == self.root else f"{self._name(folder)}/"

    def _seen(self, name: str) -> dict[str, Any]:
        try:
            return json.loads(self._note_of(name).read_bytes())
        except (OSError, ValueError):
            return {}

    def _note(self, path: Path, version: str, state: list[int] | None = None) -> None:
        with files.unwatched():
            note = {"version": version, "state": state or _state(path)}
            write_whole(self._note_of(self._name(path)), json.dumps(note).encode())

    def _forget(self, name: str) -> None:
        self._note_of(name).unlink(missing_ok=True)

    def _note_of(self, name: str) -> Path:
        return self.root / SEEN / quote(name, safe="")

    # Who works where

    @contextmanager
    def leased(self, folder: Path, name: str, *, waiting: bool, below: bool) -> Iterator[None]:
        """The only one in the store's folder as long as the block runs, which begins with what is there; InUse where
        another is, unless `waiting` for him. Only for who has the lock of the folder here."""
        key = folder.absolute(), name
        if key in self._held:
            yield
            return
        lease = self._held[key] = self._take(f"{self._prefix(folder)}{name}", waiting=waiting)
        keeper = threading.Thread(target=self._renew, args=(lease,), daemon=True)
        keeper.start()
        try:
            self.pull(folder, below=below)
            yield
        finally:
            lease.over.set()
            keeper.join()
            del self._held[key]

    def _take(self, name: str, *, waiting: bool) -> _Lease:
        pause = 0.05
        while True:
            found = self.bucket.read(name)
            said = _lease_of(found.content) if found else {}
            if found is None or said.get("owner") in ("", None, self.owner) or found.age > SECONDS_OF_A_LEASE:
                with suppress(Conflict):  # another was quicker
                    asked = time.monotonic()
                    version = self.bucket.write(name, self._signed(), only=found.version if found else "")
                    return _Lease(name, version, asked)
            elif not waiting:
                raise InUse(
                    f"{self.bucket.url}/{name.rpartition('/')[0]} is in use by {said.get('who')}; wait for it, or "
                    f"choose another --out"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)

    def _renew(self, lease: _Lease) -> None:
        """Until it is over, and given back then; or lost."""
        while not lease.over.wait(SECONDS_OF_A_LEASE / RENEWALS):
            asked = time.monotonic()
            try:
                lease.version = self.bucket.write(lease.name, self._signed(), only=lease.version)
                lease.renewed = asked
            except Conflict:
                lease.lost = True
                return
            except LilliputError:  # nobody answers: tried again, as long as it may be ours
                continue
        with suppress(Conflict, LilliputError):
            self.bucket.write(lease.name, b"{}", only=lease.version)

    def _signed(self) -> bytes:
        """Never twice the same: of the same content an object has the same version."""
        who = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"owner": self.owner, "who": who, "written": by_chance()}).encode()


def _lease_of(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _is_shared(name: str) -> bool:
    """Whether a name in the store is that of a file below the folder. Not one that leads elsewhere (a store takes any)
    or is a folder's, nor of what is one machine's alone: locks, drafts, notes."""
    parts = tuple(name.split("/"))
    return parts == Path(name).parts and not any(part.startswith(".") for part in parts)


def _taken(bucket: Bucket, name: str) -> InUse:
    return InUse(f"{bucket.url}/{name} was written by another process meanwhile; what it did is kept, this is not")


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
