"""Any folder of images: train/<class>/ and test/<class>/ give labels; without them all images, at any depth, have none.

Formats: those of `lilliput.decode.extensions`. Hidden files, links to folders and everything else are passed over;
folders that cannot be read are too, aloud.
"""

import os
from collections.abc import Sequence

import numpy as np

from lilliput.data.store import Data, Store, chosen_size, default_size, spaced
from lilliput.data.tree import Part, existing_folder, images_below, key_of, labelled, refuse
from lilliput.data.writing import prepared
from lilliput.errors import BadData
from lilliput.images.decode import fill_from_files, short_sides
from lilliput.system.visible import visible

headers_read = 1000
longest_name = 50  # with technique and backbone it must still be a folder's name


def prepare(
    *,
    path: str | os.PathLike,
    pool: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
) -> Data:
    """Stores of the images in `path`; `pool` is another folder of images, to learn from without labels."""
    root = existing_folder(path)
    train, test = labelled(root)
    if train is None:
        if pool is not None:
            raise BadData(f"{root} has no train/ and test/, so it is the pool already; leave {pool} out")
        whole = Part(root, images_below(root))
    elif pool is not None:
        unlabelled = existing_folder(pool)
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
    if twice := {name for name in shown if shown.count(name) > 1}:
        raise BadData(f"two class folders would both be called {min(twice)!r}; rename one")
    return shown


def _judged(store: Store) -> Store:
    """`store`, unless all images of a class turned out to be unreadable."""
    left = {store.classes[label] for label in np.unique(store.labels)}
    refuse(set(store.classes) - left, f"without a readable image in {store.manifest['source']}")
    return store


def _own_size(parts: Sequence[Part | None]) -> int:
    """The side that nineteen of twenty images reach, by the headers of some: one icon among photographs must not
    make them all small."""
    paths = [part.root / file.name for part in parts if part is not None for file in part.files]
    sides = short_sides(paths[row] for row in spaced(len(paths), headers_read))
    return int(np.quantile(sides, 0.05, method="lower")) if sides else default_size
