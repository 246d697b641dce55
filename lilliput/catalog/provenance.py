"""Which files of a user's own a run or study was made with, so that it can be told when they are absent or others."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lilliput.catalog.files import KINDS, Location, digest_of, imported_digest, locations, singular
from lilliput.errors import UnknownName

OWN_FILES = "own_files"  # in run.json, study.json and encoders' headers: kind/name -> path and digest


def own_files(**names: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
    """{"own_files": {"techniques/pairs": {"path": ..., "sha256": ...}}} by kind, or {} where all is this package's.

    The digest is that of the text that was imported: what runs is not what the file has been made since.
    """
    files = {
        f"{kind}/{name}": {"path": str(location.file), "sha256": imported_digest(location) or digest_of(location.file)}
        for kind, wanted in names.items()
        for name, location in locations(kind).items()
        if location.is_own and name in wanted
    }
    return {OWN_FILES: files} if files else {}


def check_known(record: Mapping[str, Any]) -> None:
    """UnknownName with the way out if a file of a user's own, which a record names, is not known here.

    It is never taken from the record itself: to be known is to be run.
    """
    for kind, name, path, _ in _recorded(record):
        if name not in locations(kind):
            raise UnknownName(
                f"{singular(kind)} {name!r} is not known here; it came from {path}: "
                f"give it by --use (in Python lilliput.use)"
            )


def changed_files(record: Mapping[str, Any]) -> list[Path]:
    """The files known here whose text is not what it was when the record was made."""
    known = [(locations(kind).get(name), digest) for kind, name, _, digest in _recorded(record)]
    return [location.file for location, digest in known if location and _is_other(location, digest)]


def _is_other(location: Location, digest: str) -> bool:
    return location.is_own and digest_of(location.file) != digest


def _recorded(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(kind, name, path, digest) of every file that a record names."""
    files = record.get(OWN_FILES)
    for key, file in files.items() if isinstance(files, dict) else ():
        kind, _, name = key.partition("/")
        if kind in KINDS and isinstance(file, dict):
            yield kind, name, str(file.get("path")), str(file.get("sha256"))
