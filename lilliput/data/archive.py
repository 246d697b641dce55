"""Unpack archives: the files that are wanted and nothing else, into one folder, in no more room than they need."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from lilliput.errors import BadData
from lilliput.system.files import cannot_write
from lilliput.system.progress import say


def unpack(archive: Path, place: Path, names: Sequence[str], *, most_bytes: int) -> None:
    """Files of these names of a .tar.gz in `place`, each whole, in this order; removes the archive, as large as what
    came out."""
    with _unpacking(archive, place):
        with tarfile.open(archive, "r:gz") as tar:
            _take(tar, place, names, most_bytes)
        for name in names:
            if not _part(place, name).exists():
                raise BadData(f"{archive} has no {name}: remove it and try again")
        for name in names:
            _part(place, name).replace(place / name)
        archive.unlink()


def unpack_tree(archive: Path, place: Path, *, most_bytes: int) -> None:
    """The regular files of a .tar.gz or .zip in `place`, below the folders that it names; none outside, and no link.

    Room counts as in a tar: a block for each member. BadData where the archive is damaged or takes more.
    """
    with _unpacking(archive, place):
        for name, size, content in _members(archive):
            most_bytes -= size + tarfile.BLOCKSIZE
            if most_bytes < 0 or size < 0:
                raise tarfile.ReadError(f"{name} of {size} bytes is more than belongs there")
            path = PurePosixPath(name)
            if content is None or path.is_absolute() or ".." in path.parts or set(name) & set(":\\"):
                continue
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            with content() as source, (place / path).open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def gunzip(archive: Path, path: Path, *, most_bytes: int) -> None:
    """The content of a .gz at `path`, whole or not at all; removes the archive."""
    with _unpacking(archive, path.parent):
        part = _part(path.parent, path.name)
        with gzip.open(archive) as source, part.open("wb") as file:
            while chunk := source.read(1 << 20):
                if (most_bytes := most_bytes - len(chunk)) < 0:
                    raise gzip.BadGzipFile("more than belongs there")
                file.write(chunk)
        part.replace(path)
        archive.unlink()


@contextmanager
def _unpacking(archive: Path, place: Path) -> Iterator[None]:
    """What goes wrong within is told of the archive, or of the place where it is written."""
    say(f"unpacking {archive}")
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadData(f"{archive} is damaged ({error}): remove it and try again") from error
    except (RuntimeError, NotImplementedError) as error:  # of a zip: a password, a method that nobody knows
        raise BadData(f"{archive} cannot be unpacked ({error}): remove it and try again") from error
    except OSError as error:
        raise cannot_write(place, error) from error


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]] | None]]:
    """Name, size and content of each; what is no regular file has none."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                yield info.filename, info.file_size, None if info.is_dir() else partial(file.open, info)
        return
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            yield member.name, member.size, partial(_extracted, tar, member) if member.isfile() else None


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None  # a regular file
    return content


def _take(tar: tarfile.TarFile, place: Path, names: Sequence[str], bytes_left: int) -> None:
    """Write each wanted file under its bare name, whatever folder the archive claims; follow and make no link."""
    for member in tar:
        bytes_left -= member.size + tarfile.BLOCKSIZE
        if bytes_left < 0 or member.size < 0:
            raise tarfile.ReadError(f"{member.name} of {member.size} bytes is more than belongs there")
        name = PurePosixPath(member.name).name
        content = tar.extractfile(member) if name in names and member.isfile() else None
        if content is not None:
            with content, _part(place, name).open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)


def _part(place: Path, name: str) -> Path:
    return place / f"{name}.part"
