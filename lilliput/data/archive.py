"""Unpack a .tar.gz: the files that are wanted and nothing else, into one folder, in no more room than they need."""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lilliput.errors import BadData
from lilliput.system.files import cannot_write
from lilliput.system.progress import say


def unpack(archive: Path, place: Path, names: Sequence[str], *, most_bytes: int) -> None:
    """Files of these names in `place`, each whole, in this order; removes the archive, as large as what came out."""
    say(f"unpacking {archive}")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r:gz") as tar:
            _take(tar, place, names, most_bytes)
        for name in names:
            if not _part(place, name).exists():
                raise BadData(f"{archive} has no {name}: remove it and try again")
        for name in names:
            _part(place, name).replace(place / name)
        archive.unlink()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadData(f"{archive} is damaged ({error}): remove it and try again") from error
    except OSError as error:
        raise cannot_write(place, error) from error


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
