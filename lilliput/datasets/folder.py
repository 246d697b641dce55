"""Any folder of images: train/<class>/ and test/<class>/ give labels; without them all images, at any depth, have none.

Formats: those of `lilliput.images.decode.EXTENSIONS`. Hidden files, links to folders and everything else are passed
over; folders that cannot be read are too, aloud.
"""

import os
from collections.abc import Sequence

import numpy as np

from lilliput.data.filling import fill_from_files
from lilliput.data.store import DEFAULT_SIZE, Data, Store, chosen_size, spaced
from lilliput.data.tree import Part, existing_folder, images_below, key_of, labelled_parts, refuse_classes
from lilliput.data.writing import prepared
from lilliput.errors import BadData
from lilliput.images.decode import short_sides
from lilliput.system.visible import visible

HEADERS_READ = 1000
LONGEST_NAME = 50  # with technique and backbone it must still be a folder's name


def prepare(
    *,
    path: str | os.PathLike,
    pool: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
) -> Data:
    """Stores of the images in `path`; `pool` is another folder of images, to learn from without labels."""
    root = existing_folder(path)
    train, test = labelled_parts(root)
    if train is None:
        if pool is not None:
            raise BadData(f"{root} has no train/ and test/, so it is the pool already; leave {pool} out")
        whole = Part(root, images_below(root))
    elif pool is not None:
        unlabelled = existing_folder(pool)
        whole = Part(unlabelled, images_below(unlabelled))
    else:
        whole = Part(train.root, train.files)
    taken = whole.limited(limit)
    size = chosen_size(image_size, _own_size([taken, train, test]) if image_size is None else DEFAULT_SIZE)
    name = f"folder-{visible(root.name)[:LONGEST_NAME]}"
    if train is None or test is None:
        return Data(name, _store(name, "pool", taken, size), None, None)
    train_store = _complete(_store(name, "train", train, size))
    test_store = _complete(_store(name, "test", test, size))
    if pool is None and len(taken.files) == len(train.files):
        return Data(name, train_store, train_store, test_store)
    return Data(name, _store(name, "pool", taken, size), train_store, test_store)


def _store(name: str, split: str, part: Part, size: int) -> Store:
    names = [file.name for file in part.files]
    return prepared(
        name=name,
        split=split,
        key=key_of(part, size),
        source=str(part.root),
        image_size=size,
        count=len(names),
        fill=fill_from_files([part.root / name for name in names], names, f"decoding {part.root}"),
        labels=part.labels,
        classes=None if part.classes is None else _shown(part.classes),
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
