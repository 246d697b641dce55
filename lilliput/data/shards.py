"""Tar files of images, and an index of our own for each: name, place, size and shorter side of every image in it.

The layout is WebDataset's, https://github.com/webdataset/webdataset; what is not an image (labels, texts) is passed
over. An index is kept below LILLIPUT_HOME under the shard's address, size and version, so a shard is read for it once.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from lilliput.data.manifest import fingerprint
from lilliput.data.remote import Remote, is_remote, look_up
from lilliput.errors import BadData, Unreadable
from lilliput.images.decode import EXTENSIONS, LARGE_BYTES, MOST_BYTES, one_at_a_time, short_side
from lilliput.system.files import cannot_write, home, opened
from lilliput.system.locks import locked
from lilliput.system.records import json_digest, of_kinds, read_json, write_json

KINDS = {"names": [str], "offsets": [int], "sizes": [int], "sides": [int], "unreadable": dict, "others": dict}
MOST_HEADER = 2**24  # bytes that a tar may have read at once for what it says of a file: a name has hundreds


class Index(NamedTuple):
    """What a shard holds, in its order."""

    names: list[str]
    offsets: list[int]  # of the first byte
    sizes: list[int]  # bytes
    sides: list[int]  # the shorter, pixels, by the image's header
    unreadable: dict[str, str]  # what is called an image and is none -> why
    others: dict[str, int]  # what is passed over beside that -> how many

    @property
    def digest(self) -> str:
        """Of the images' names and sizes, not of their pixels."""
        return json_digest([self.names, self.sizes])


class Tar(NamedTuple):
    """A shard that may be read: where it is, and in which version."""

    source: str  # path or address
    remote: Remote | None
    state: tuple[int, int | str]  # its size in bytes, and when it was changed or which version it is

    @property
    def folder(self) -> Path:
        """Where its index is, and the tar itself while it is held here."""
        return home() / "shards" / fingerprint([self.source, self.state])


class Shard(NamedTuple):
    """A shard that was read, and what of its index is kept in memory."""

    tar: Tar
    images: int
    digest: str  # of the index

    @property
    def contents(self) -> Index:
        return _kept_index(self.tar.folder)


def tar_of(source: str) -> Tar:
    """The shard at a path or address; Unreachable where a server does not answer, LilliputError where there is none."""
    if is_remote(source):
        remote = look_up(source)
        return Tar(source, remote, (remote.size, remote.tag))
    try:
        with opened(source) as file:
            return Tar(source, None, state_of(file))
    except OSError as error:
        raise Unreadable(f"cannot read {source}: {error.strerror}") from None


def state_of(file: BinaryIO) -> tuple[int, int]:
    """The size and the time of change of a file on this machine."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def indexed(tar: Tar, opened: Callable[[Tar], AbstractContextManager[BinaryIO]]) -> Index:
    """The index that is kept of the tar, else made of it as it is `opened`, and kept. BadData where it is damaged,
    compressed or holds no image."""
    if index := _whole_index(tar.folder):
        return index
    with opened(tar) as file:
        try:
            tar.folder.mkdir(parents=True, exist_ok=True)
            with locked(tar.folder):
                if index := _whole_index(tar.folder):  # another process was quicker
                    return index
                index = read_index(file, tar.source)
                write_json(tar.folder / "index.json", index._asdict())
        except OSError as error:
            raise cannot_write(tar.folder, error) from error
    return index


def _whole_index(folder: Path) -> Index | None:
    """The one that is kept; None where there is none, or one that is to be made anew."""
    if not (folder / "index.json").exists():
        return None
    try:
        return _kept_index(folder)
    except Unreadable:
        raise
    except BadData:
        return None


def _kept_index(folder: Path) -> Index:
    said = of_kinds(read_json(folder / "index.json"), KINDS, folder / "index.json")
    return Index(**{name: said[name] for name in Index._fields})


def read_index(file: BinaryIO, source: str) -> Index:
    """The images of a tar by the headers of both; BadData where it is damaged, compressed or holds none."""
    index = Index([], [], [], [], {}, {})
    others: Counter[str] = Counter()
    try:
        for member in _members(source, file):
            why = _why_not(member)
            side = None if why else short_side(read_member(file, member.offset_data, member.size))
            extension = Path(member.name).suffix.lower()
            if side:
                index.names.append(member.name)
                index.offsets.append(member.offset_data)
                index.sizes.append(member.size)
                index.sides.append(side)
            elif extension in EXTENSIONS:
                index.unreadable[member.name] = why or "no image that Pillow knows"
            else:
                others[(extension or "no extension") if member.isreg() else "no regular files"] += 1
    except OSError as error:
        raise Unreadable(f"cannot read {source}: {error.strerror or error}") from None
    if not index.names:
        raise BadData(f"{source} holds no image")
    index.others.update(others)
    return index


def _why_not(member: tarfile.TarInfo) -> str | None:
    """What speaks against a look into a member of a tar. Its name does not: nothing is ever written under it."""
    if not member.isreg():
        return "a link, a folder or a device"
    if not member.size:
        return "empty"
    return f"{member.size >> 20} MiB, more than {MOST_BYTES >> 20}" if member.size > MOST_BYTES else None


def read_member(file: BinaryIO, offset: int, size: int) -> bytes:
    """What lies there; large ones are held one at a time, by a caller that decodes them so."""
    with one_at_a_time(size > LARGE_BYTES):
        file.seek(offset)
        return file.read(size)


class _Headers:
    """A tar's file as `tarfile` reads it for headers alone: never much at once, whatever a header says."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {count} bytes")
        return self._read(count)


def _members(source: str, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """In their order; BadData where it is no tar, is compressed, or ends before its end is told."""
    length, end = state_of(file)[0], 0
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # type: ignore[call-overload]
            while member := tar.next():
                tar.members.clear()  # a million empty files would else stay in memory
                if member.size < 0 or member.offset_data < end:
                    raise tarfile.ReadError(f"{member.name} begins before the file before it ends")
                if member.issparse():
                    raise tarfile.ReadError(f"{member.name} was packed with holes, by --sparse")
                has_content = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
                end = member.offset_data + (-(-member.size // 512) * 512 if has_content else 0)
                if end > length:
                    raise tarfile.ReadError(f"it ends within {member.name}")
                yield member
        file.seek(end)
        if file.read(512) != bytes(512):  # `tarfile` takes a damaged header for the end
            raise tarfile.ReadError("no end is told: cut off, or a damaged header")
    except (tarfile.TarError, EOFError, ValueError, UnicodeError, RecursionError) as error:
        hint = "; unpack it: shards are plain .tar" if _is_compressed(file) else ""
        raise BadData(f"{source} is no whole tar ({' '.join(str(error).split())}){hint}") from None


def _is_compressed(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"))


def sides_of(shards: list[Shard], most: int) -> np.ndarray:
    """The shorter sides of the images in some of the shards, evenly spaced."""
    chosen = [shards[number * len(shards) // most] for number in range(most)] if len(shards) > most else shards
    return np.concatenate([shard.contents.sides for shard in chosen])
