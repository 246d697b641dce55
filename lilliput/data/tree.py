"""Images in the folders of a user: which files there are, in which classes."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lilliput.data.manifest import fingerprint
from lilliput.data.store import Images, spaced
from lilliput.errors import BadData
from lilliput.images.decode import EXTENSIONS
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
        numbers = {name: label for label, name in enumerate(self.classes)}
        return [numbers[_class_of(file)] for file in self.files]

    def limited(self, limit: int | None) -> "Part":
        """At most so many of the files, evenly spaced."""
        return self._replace(files=[self.files[row] for row in spaced(len(self.files), limit)])


def images_below(root: Path) -> list[File]:
    """All images below `root`, at any depth, sorted by name; BadData when there are none."""
    files = _listed([root])[root]
    if not files:
        raise BadData(f"no images in {root}: looked for {' '.join(EXTENSIONS)}, at any depth")
    return files


def names_of(store: Images) -> list[str] | None:
    """The file of every row, below the store's source; None where it holds no folder, or the folder has changed."""
    root, skipped = Path(store.manifest["source"]), {entry["file"] for entry in store.manifest["skipped"]}
    if not root.is_dir():
        return None
    count = len(store) + len(skipped)
    for part in _parts_of(root, store.manifest["classes"]):
        taken = part.limited(count)
        if store.folder.name.endswith(fingerprint(key_of(taken, store.image_size))):
            return [file.name for file in taken.files if file.name not in skipped]
    return None


def _parts_of(root: Path, classes: list[str] | None) -> Iterator[Part]:
    """What a store may have been prepared from: a pool is of all images, or of those in classes, unlabelled."""
    with suppress(BadData):
        if classes is None:
            yield Part(root, images_below(root))
        part = _classified(root)
        yield part if classes else part._replace(classes=None)


def _listed(roots: Sequence[Path]) -> dict[Path, list[File]]:
    """The images below each of `roots`, sorted by name; folders that cannot be read are named in one line."""
    unreadable: list[OSError] = []
    files = {root: sorted(_walked(root, unreadable.append)) for root in roots}
    if unreadable:
        first, more = unreadable[0], " ..." if len(unreadable) > 1 else ""
        say(f"passed over {len(unreadable)} folders: {first.filename!r} ({first.strerror}){more}")
    return files


def _walked(root: Path, on_error: Callable[[OSError], None]) -> Iterator[File]:
    to_visit = [""]
    while to_visit:  # os.walk's own stack ends at a thousand folders in one another
        inside = to_visit.pop()
        try:
            entries = list(os.scandir(root / inside))
        except OSError as error:
            on_error(error)
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                to_visit += [f"{inside}{entry.name}/"] if not entry.name.startswith(".") else []
            elif _is_image(entry.name):
                with suppress(OSError):  # a link to nowhere
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                        yield File(inside + entry.name, status.st_size, status.st_mtime_ns)


def labelled_parts(root: Path) -> tuple[Part, Part] | tuple[None, None]:
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
    refuse_classes(tested - trained, f"in {test} but not in {train}: nothing to learn it from")
    refuse_classes(trained - tested, f"in {train} but not in {test}: it cannot be judged")
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
        raise BadData(f"no images in the class folders of {folder}: looked for {' '.join(EXTENSIONS)}")
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


def refuse_classes(classes: set[str], why: str) -> None:
    """BadData naming some of the classes, if there are any."""
    if classes:
        names = ", ".join(map(repr, sorted(classes)[:5])) + (", ..." if len(classes) > 5 else "")
        raise BadData(f"class {names} is {why}")


def key_of(part: Part, size: int) -> list:
    """What determines the content of a store of the part at this image size."""
    return [str(part.root), part.files, part.classes, size]


def existing_folder(path: str | os.PathLike) -> Path:
    """The folder's full path; BadData where there is none, or none that can be read."""
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
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def _class_of(file: File) -> str:
    return file.name.split("/", 1)[0]
