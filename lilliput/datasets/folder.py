"""Any folder of images: train/<class>/ and test/<class>/ give labels; without them all images, at any depth, have none.

Formats: those of `lilliput.decode.extensions`. Hidden files, links to folders and everything else are passed over.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lilliput.decode import extensions, fill_from_files, short_sides
from lilliput.errors import BadData
from lilliput.progress import say
from lilliput.store import Data, Store, chosen_size, default_size, prepared, spaced

headers_read = 1000


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
    name = f"folder-{root.name}"
    if train is None or test is None:
        return Data(name, _store(name, "pool", few, size), None, None)
    train_store, test_store = _judged(_store(name, "train", train, size)), _judged(_store(name, "test", test, size))
    if pool is None and len(few.files) == len(train.files):
        return Data(name, train_store, train_store, test_store)
    return Data(name, _store(name, "pool", few, size), train_store, test_store)


def images_below(root: Path) -> list[File]:
    """All images below `root`, at any depth, sorted by name; BadData when there are none."""
    files = _listed(root)
    if not files:
        raise BadData(f"no images in {root}: looked for {' '.join(extensions)}, at any depth")
    return files


def _listed(root: Path) -> list[File]:
    files = []
    for folder, folders, names in os.walk(root, followlinks=False, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(folder).relative_to(root).as_posix() + "/"
        for name in filter(_is_image, names):
            try:
                about = os.stat(os.path.join(folder, name))
            except OSError:  # a link to nowhere
                continue
            if stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
                files.append(File(inside.removeprefix("./") + name, about.st_size, about.st_mtime_ns))
    return sorted(files)


def _labelled(root: Path) -> tuple[Part, Part] | tuple[None, None]:
    """The train and test parts of `root`, checked before anything is decoded; nothing when it has neither."""
    train, test = root / "train", root / "test"
    if not train.is_dir() and not test.is_dir():
        return None, None
    for here, absent in ((train, test), (test, train)):
        if not absent.is_dir():
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
    files = [
        file._replace(name=f"{entry.name}/{file.name}")
        for entry in entries
        if entry.is_dir() and not entry.name.startswith(".")
        for file in _listed(Path(entry))
    ]
    loose = [entry.name for entry in entries if entry.is_file() and _is_image(entry.name)]
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


def _refuse(classes: set[str], why: str) -> None:
    if classes:
        names = ", ".join(map(repr, sorted(classes)[:5])) + (", ..." if len(classes) > 5 else "")
        raise BadData(f"class {names} is {why}")


def _store(name: str, split: str, part: Part, size: int) -> Store:
    names = [file.name for file in part.files]
    return prepared(
        name=name,
        split=split,
        key=[str(part.root), part.files, part.classes, size],
        source=str(part.root),
        image_size=size,
        count=len(names),
        fill=fill_from_files([part.root / name for name in names], names, f"decoding {part.root}"),
        labels=part.labels,
        classes=part.classes,
    )


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
    folder = Path(path).expanduser()
    if not folder.exists():
        raise BadData(f"no folder {folder}")
    if not folder.is_dir():
        raise BadData(f"{folder} is no folder; unpack it if it is an archive")
    return folder.resolve()


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        _unreadable(error)
        raise


def _unreadable(error: OSError) -> None:
    raise BadData(f"cannot read {error.filename}: {error.strerror}") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(extensions) and not name.startswith(".")


def _class_of(file: File) -> str:
    return file.name.split("/", 1)[0]
