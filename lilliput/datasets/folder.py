"""Any folder of images: train/<class>/ and test/<class>/ give labels; without them all images, at any depth, have none.

Formats: those of `lilliput.decode.extensions`. Hidden files, links to folders and everything else are passed over;
folders that cannot be read are too, aloud.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lilliput.decode import extensions, fill_from_files, short_sides
from lilliput.errors import BadData
from lilliput.progress import say
from lilliput.store import Data, Store, chosen_size, default_size, fingerprint, prepared, spaced
from lilliput.visible import visible

headers_read = 1000
longest_name = 50  # with technique and backbone it must still be a folder's name


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


def prepare(
    *,
    path: str | os.PathLike,
    pool: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
) -> Data:
    """Stores of the images in `path`; `pool` is another folder of images, to learn from without labels."""
    root = _folder(path)
    train, test = _labelled(root)
    if train is None:
        if pool is not None:
            raise BadData(f"{root} has no train/ and test/, so it is the pool already; leave {pool} out")
        whole = Part(root, images_below(root))
    elif pool is not None:
        unlabelled = _folder(pool)
        whole = Part(unlabelled, images_below(unlabelled))
    else:
        whole = Part(train.root, train.files)
    few = whole._replace(files=[whole.files[row] for row in spaced(len(whole.files), limit)])
    size = chosen_size(image_size, _own_size([few, train, test]) if image_size is None else default_size)
    name = f"folder-{visible(root.name)[:longest_name]}"
    if train is None or test is None:
        return Data(name, _store(name, "pool", few, size), None, None)
    train_store, test_store = _judged(_store(name, "train", train, size)), _judged(_store(name, "test", test, size))
    if pool is None and len(few.files) == len(train.files):
        return Data(name, train_store, train_store, test_store)
    return Data(name, _store(name, "pool", few, size), train_store, test_store)


def images_below(root: Path) -> list[File]:
    """All images below `root`, at any depth, sorted by name; BadData when there are none."""
    files = _listed([root])[root]
    if not files:
        raise BadData(f"no images in {root}: looked for {' '.join(extensions)}, at any depth")
    return files


def names_of(store: Store) -> list[str] | None:
    """The file of every row, below the store's source; None where it holds no folder, or the folder has changed."""
    root, skipped = Path(store.manifest["source"]), {entry["file"] for entry in store.manifest["skipped"]}
    if not root.is_dir():
        return None
    count = len(store) + len(skipped)
    for part in _parts_of(root, store.classes):
        few = part._replace(files=[part.files[row] for row in spaced(len(part.files), count)])
        if store.folder.name.endswith(fingerprint(_key(few, store.image_size))):
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


def _labelled(root: Path) -> tuple[Part, Part] | tuple[None, None]:
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
    _refuse(tested - trained, f"in {test} but not in {train}: nothing to learn it from")
    _refuse(trained - tested, f"in {train} but not in {test}: it cannot be judged")
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


def _refuse(classes: set[str], why: str) -> None:
    if classes:
        names = ", ".join(map(repr, sorted(classes)[:5])) + (", ..." if len(classes) > 5 else "")
        raise BadData(f"class {names} is {why}")


def _store(name: str, split: str, part: Part, size: int) -> Store:
    names = [file.name for file in part.files]
    return prepared(
        name=name,
        split=split,
        key=_key(part, size),
        source=str(part.root),
        image_size=size,
        count=len(names),
        fill=fill_from_files([part.root / name for name in names], names, f"decoding {part.root}"),
        labels=part.labels,
        classes=None if part.classes is None else _shown(part.classes),
    )


def _key(part: Part, size: int) -> list:
    return [str(part.root), part.files, part.classes, size]


def _shown(classes: list[str]) -> list[str]:
    """The names without what a table or a terminal would take for orders."""
    shown = [visible(name) for name in classes]
    if twice := {name for name in shown if shown.count(name) > 1}:
        raise BadData(f"two class folders would both be called {min(twice)!r}; rename one")
    return shown


def _judged(store: Store) -> Store:
    """`store`, unless all images of a class turned out to be unreadable."""
    assert store.classes is not None and store.labels is not None
    left = {store.classes[label] for label in np.unique(store.labels)}
    _refuse(set(store.classes) - left, f"without a readable image in {store.manifest['source']}")
    return store


def _own_size(parts: Sequence[Part | None]) -> int:
    """The side that nineteen of twenty images reach, by the headers of some: one icon among photographs must not
    make them all small."""
    paths = [part.root / file.name for part in parts if part is not None for file in part.files]
    sides = short_sides(paths[row] for row in spaced(len(paths), headers_read))
    return int(np.quantile(sides, 0.05, method="lower")) if sides else default_size


def _folder(path: str | os.PathLike) -> Path:
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
