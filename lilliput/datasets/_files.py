"""Stores of image files: a folder of the user's, or a data set that comes as files; split here if it has no split."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lilliput.data.filling import fill_from_files
from lilliput.data.split import SHARE, split
from lilliput.data.store import DEFAULT_SIZE, Data, Images, Store, chosen_size, spaced
from lilliput.data.tree import Part, Parts, images_below, key_of, refuse_classes
from lilliput.data.walk import File, Walk
from lilliput.data.writing import prepared
from lilliput.errors import BadData
from lilliput.images.decode import short_sides
from lilliput.system.files import read_whole
from lilliput.system.progress import say
from lilliput.system.visible import visible

HEADERS_READ = 1000


def labelled(root: Path, class_of: Callable[[str], str | None], classes: Sequence[str] | None = None) -> Part:
    """The images below `root` that `class_of` their name gives a class; `classes` in their order, else sorted."""
    files = images_below(root, Walk())
    named = {file.name: name for file in files if (name := class_of(file.name)) is not None}
    kept: list[File] = [file for file in files if file.name in named]
    return Part(root, kept, list(classes or sorted(set(named.values()))), named)


def text_of(path: Path) -> str:
    """What a list or table of a data set says; BadData where it is no text."""
    try:
        return read_whole(path).decode()
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is no text in UTF-8 ({error}): get it again") from None


def learned(train: Part, test: Part | None = None) -> Parts:
    """A data set whose training images are the pool too."""
    return Parts(Part(train.root, train.files), train, test)


def data_of(
    name: str,
    parts: Parts,
    *,
    image_size: int | None,
    limit: int | None,
    share: float = SHARE,
    table: Path | None = None,
    own: bool = True,
) -> Data:
    """Stores of the parts. Without a test part, `share` of each class judges, drawn always alike.

    `table`: where the classes are from; `own`: the pool is of the same folder, so it has no image that judges.
    """
    taken = parts.pool.limited(limit)
    size = chosen_size(image_size, _own_size([taken, *parts[1:]]) if image_size is None else DEFAULT_SIZE)
    if parts.train is None:
        return Data(name, _store(name, "pool", taken, size), None, None)
    if parts.test is None:
        return _divided(name, parts, size, limit, share, table, own)
    train = _complete(_store(name, "train", parts.train, size))
    test = _complete(_store(name, "test", parts.test, size))
    if own and len(taken.files) == len(parts.train.files):
        return Data(name, train, train, test)
    return Data(name, _store(name, "pool", taken, size), train, test)


def _divided(
    name: str, parts: Parts, size: int, limit: int | None, share: float, table: Path | None, own: bool
) -> Data:
    """Labelled images split here; of a pool of their `own` folder those that judge are no part."""
    assert parts.train is not None
    whole = _complete(_store(name, "labelled", parts.train, size, table))
    train, test = split(whole, share)
    counts = f"{len(train)} to learn from and {len(test)} to judge by ({share:.0%} of each class)"
    say(f"{parts.train.root}: {len(whole)} images in {len(whole.classes)} classes, {counts}")
    if own and len(parts.pool.files) == len(parts.train.files):
        return Data(name, _spaced(train, limit), train, test)
    if own:
        skipped = {entry["file"] for entry in whole.manifest["skipped"]}
        kept = [file for file in parts.train.files if file.name not in skipped]
        judges = {kept[row] for row in test.rows}
        parts = parts._replace(
            pool=parts.pool._replace(files=[file for file in parts.pool.files if file not in judges])
        )
    return Data(name, _store(name, "pool", parts.pool.limited(limit), size), train, test)


def _spaced(images: Images, limit: int | None) -> Images:
    return images if limit is None or limit >= len(images) else images.take(spaced(len(images), limit))


def _store(name: str, kind: str, part: Part, size: int, table: Path | None = None) -> Store:
    names = [file.name for file in part.files]
    return prepared(
        name=name,
        split=kind,
        key=key_of(part, size),
        source=str(part.root),
        image_size=size,
        count=len(names),
        fill=fill_from_files([part.root / name for name in names], names, f"decoding {part.root}"),
        labels=part.labels,
        classes=None if part.classes is None else _shown(part.classes),
        labels_from=None if table is None else str(table),
    )


def _shown(classes: list[str]) -> list[str]:
    """The names without what a table or a terminal would take for orders."""
    shown = [visible(name) for name in classes]
    if duplicates := {name for name in shown if shown.count(name) > 1}:
        raise BadData(f"two class folders would both be called {min(duplicates)!r}; rename one")
    return shown


def _complete(store: Store) -> Store:
    """The store; BadData where all images of a class turned out to be unreadable."""
    readable = {store.classes[label] for label in np.unique(store.labels)}
    refuse_classes(set(store.classes) - readable, f"without a readable image in {store.manifest['source']}")
    return store


def _own_size(parts: Sequence[Part | None]) -> int:
    """The side that nineteen of twenty images reach, by the headers of some: one icon among photographs must not
    make them all small."""
    paths = [part.root / file.name for part in parts if part is not None for file in part.files]
    sides = short_sides(paths[row] for row in spaced(len(paths), HEADERS_READ))
    return int(np.quantile(sides, 0.05, method="lower")) if sides else DEFAULT_SIZE
