"""The files of a named data set: in a folder of the user's, or fetched and unpacked once below the home folder."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lilliput.data.archive import unpack_tree
from lilliput.data.download import downloads, fetch
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import cannot_write, home


class Remote(NamedTuple):
    """A file on a server: an archive, or (without `unpacked_bytes`) one that is taken as it is."""

    url: str
    md5: str
    most_bytes: int
    unpacked_bytes: int | None = None  # at most, with a block for each file
    inner: str | None = None  # an archive in the archive, which is unpacked in its turn

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


class Kind(NamedTuple):
    """A data set of files."""

    name: str  # of the data set here
    remotes: Sequence[Remote]
    inside: str  # the folder that holds what is read, or its parent does
    marks: Sequence[str]  # what is read in it


def place_of(kind: Kind, folder: str | os.PathLike | None) -> Path:
    """Where the files are: in the user's folder, or in ours, fetched there unless they are there."""
    given = _downloaded(kind) if folder is None else Path(folder).expanduser()
    place = _whole(kind, given)
    if place is None:
        way_out = "remove it to download them" if folder is None else "leave folder out to download them"
        raise BadData(f"{given} has no {kind.inside}/ with {', '.join(kind.marks)}; {way_out}")
    return place.resolve()


def _whole(kind: Kind, root: Path) -> Path | None:
    """The folder that holds what is read: what the archive unpacks in the root, or the root itself."""
    places = (root / kind.inside, root)
    return next((place for place in places if all((place / mark).exists() for mark in kind.marks)), None)


def _downloaded(kind: Kind) -> Path:
    """The data set's own folder, which is there whole or not at all."""
    place = home() / "downloads" / kind.name
    if place.exists():
        return place
    with downloads() as root:
        if not place.exists():
            try:
                for remote in kind.remotes:
                    fetch(remote.url, root / remote.file, md5=remote.md5, most_bytes=remote.most_bytes)
            except LilliputError as error:
                raise LilliputError(f"{error}; or unpack it in {place}, or in a folder given as `folder`") from error
            _unpack(kind, root, place)
    return place


def _unpack(kind: Kind, root: Path, place: Path) -> None:
    draft = place.with_name(f"{place.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)  # of an unpacking that was killed
        for remote in kind.remotes:
            _take(remote, root / remote.file, draft)
        if _whole(kind, draft) is None:
            files = ", ".join(str(root / remote.file) for remote in kind.remotes)
            raise BadData(f"{files} without {', '.join(kind.marks)}: remove it and try again")
        draft.replace(place)
        for remote in kind.remotes:
            (root / remote.file).unlink()
    except OSError as error:
        raise cannot_write(place, error) from error


def _take(remote: Remote, path: Path, draft: Path) -> None:
    if remote.unpacked_bytes is None:
        draft.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, draft / remote.file)
        return
    unpack_tree(path, draft, most_bytes=remote.unpacked_bytes)
    if remote.inner is not None:
        if not (inner := draft / remote.inner).is_file():
            raise BadData(f"{path} has no {remote.inner}: remove it and try again")
        unpack_tree(inner, inner.parent, most_bytes=remote.unpacked_bytes)
        inner.unlink()
