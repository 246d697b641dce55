"""Images in the folders of a user: which files there are, in which classes."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lilliput.data.store import Images, fingerprint, spaced
from lilliput.errors import BadData
from lilliput.images.decode import extensions
from lilliput.system.progress import say


class File(NamedTuple):
    name: str  # below the root, with forward slashes
    size: int  # bytes
    changed: int  # nanoseconds


class Part(NamedTuple):
    """Some of the files below a folder, with their classes where they have any."""

    root: Path
    files: list[File]
    classes: list[str] | None = None

    @property
    def labels(self) -> list[int] | None:
        if self.classes is None:
            return None
        number = {name: label for label, name in enumerate(self.classes)}
        return [number[_class_of(file)] for file in self.files]


def images_below(root: Path) -> list[File]:
    """All images below `root`, at any depth, sorted by name; BadData when there are none."""
    files = _listed([root])[root]
    if not files:
        raise BadData(f"no images in {root}: looked for {' '.join(extensions)}, at any depth")
    return files


def names_of(store: Images) -> list[str] | None:
    """The file of every row, below the store's source; None where it holds no folder, or the folder has changed."""
    root, skipped = Path(store.manifest["source"]), {entry["file"] for entry in store.manifest["skipped"]}
    if not root.is_dir():
        return None
    count = len(store) + len(skipped)
    for part in _parts_of(root, store.manifest["classes"]):
        few = part._replace(files=[part.files[row] for row in spaced(len(part.files), count)])
        if store.folder.name.endswith(fingerprint(key_of(few, store.image_size))):
            return [file.name for file in few.files if file.name not in skipped]
    return None


def _parts_of(root: Path, classes: list[str] | None) -> Iterator[Part]:
    """What a store may have been prepared from: a pool is of all images, or of those in classes, unlabelled."""
    with suppress(BadData):
        if classes is None:
            yield Part(root, images_below(root))
        part = _classified(root)
        yield part if classes else part._replace(classes=None)


def _listed(roots: Sequence[Path]) -> dict[Path, list[File]]:
    """The images below each of `roots`, sorted by name; folders that cannot be read are told together."""
    closed: list[OSError] = []
    found = {root: sorted(_walked(root, closed.append)) for root in roots}
    if closed:
        more = " ..." if len(closed) > 1 else ""
        say(f"passed over {len(closed)} folders: {closed[0].filename!r} ({closed[0].strerror}){more}")
    return found


def _walked(root: Path, closed: Callable[[OSError], None]) -> Iterator[File]:
    left = [""]
    while left:  # os.walk's own stack ends at a thousand folders in one another
        inside = left.pop()
        try:
            entries = list(os.scandir(root / inside))
        except OSError as error:
            closed(error)
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left += [f"{inside}{entry.name}/"] if not entry.name.startswith(".") else []
            elif _is_image(entry.name):
                with suppress(OSError):  # a link to nowhere
                    about = entry.stat()
                    if stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
                        yield File(inside + entry.name, about.st_size, about.st_mtime_ns)


def labelled(root: Path) -> tuple[Part, Part] | tuple[None, None]:
    """The train and test parts of `root`, checked before anything is decoded; nothing when it has neither."""
    train, test = root / "train", root / "test"
    if not os.path.isdir(train) and not os.path.isdir(test):
        return None, None
    for here, absent in ((train, test), (test, train)):
        if not os.path.isdir(absent):
            raise BadData(
                f"{root} has {here.name}/ but no {absent.name}/: add {absent / '<class>'}, "
                f"or give {here} itself to learn without labels"
            )
    parts = _classified(train), _classified(test)
    trained, tested = (set(part.classes or ()) for part in parts)
    refuse(tested - trained, f"in {test} but not in {train}: nothing to learn it from")
    refuse(trained - tested, f"in {train} but not in {test}: it cannot be judged")
    return parts


def _classified(folder: Path) -> Part:
    """The images in the class folders of `folder`; a class folder, unlike those within it, may be a link."""
    entries = _entries(folder)
    # os.path's own tests, unlike an entry's, take a link in a circle for nothing rather than for an error.
    roots = [Path(entry) for entry in entries if os.path.isdir(entry) and not entry.name.startswith(".")]
    _refuse_within(folder, roots)
    files = [file._replace(name=f"{root.name}/{file.name}") for root, own in _listed(roots).items() for file in own]
    loose = [entry.name for entry in entries if os.path.isfile(entry) and _is_image(entry.name)]
    if not files and loose:
        raise BadData(
            f"{len(loose)} images directly in {folder} have no class: move them to {folder / '<class>'}, "
            f"or give {folder} itself to learn without labels"
        )
    if not files:
        raise BadData(f"no images in the class folders of {folder}: looked for {' '.join(extensions)}")
    if loose:
        say(f"passed over {len(loose)} images directly in {folder}, which have no class: {loose[0]!r} ...")
    return Part(folder, sorted(files), sorted({_class_of(file) for file in files}))


def _refuse_within(folder: Path, roots: list[Path]) -> None:
    """Class folders that are links to where others lie: the same images would be of two classes."""
    place = folder.resolve()
    seen: dict[Path, Path] = {}
    for root in sorted(roots, key=lambda root: len(root.resolve().parts)):
        own = root.resolve()
        around = next((seen[above] for above in (own, *own.parents) if above in seen), None)
        if around or own in (place, *place.parents):
            other = f"class folder {around}" if around else f"folder {own}"
            raise BadData(f"class folder {root} and {other} hold the same images; remove the link")
        seen[own] = root


def refuse(classes: set[str], why: str) -> None:
    if classes:
        names = ", ".join(map(repr, sorted(classes)[:5])) + (", ..." if len(classes) > 5 else "")
        raise BadData(f"class {names} is {why}")


def key_of(part: Part, size: int) -> list:
    return [str(part.root), part.files, part.classes, size]


def existing_folder(path: str | os.PathLike) -> Path:
    folder = Path(os.path.expanduser(path))
    if not os.path.exists(folder):
        raise BadData(f"no folder {folder}")
    if not os.path.isdir(folder):
        raise BadData(f"{folder} is no folder; unpack it if it is an archive")
    _entries(folder)
    return folder.resolve()


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise BadData(f"cannot read {folder}: {error.strerror}") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(extensions) and not name.startswith(".")


def _class_of(file: File) -> str:
    return file.name.split("/", 1)[0]
