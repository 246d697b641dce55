"""Any folder of images: folders of classes give labels, with a split or to be split; else all images have none.

Formats: what Pillow reads of `lilliput.images.decode.FORMATS`, known by content. The split may be called train and
test, training and testing, or val, in any case; `unlabeled` beside them joins the pool. What is passed over (hidden
files, other files, thumbnails of file servers, folders that cannot be read, Lilliput's own results) is counted aloud.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lilliput.data.filling import fill_from_files
from lilliput.data.split import SHARE, split
from lilliput.data.store import DEFAULT_SIZE, Data, Images, Store, chosen_size, spaced
from lilliput.data.tree import Part, Parts, existing_folder, images_below, key_of, layout_of, parts_of, refuse_classes
from lilliput.data.walk import Walk
from lilliput.data.writing import prepared
from lilliput.errors import BadData, BadSetting
from lilliput.images.decode import short_sides
from lilliput.system.progress import say
from lilliput.system.visible import visible

HEADERS_READ = 1000
LONGEST_NAME = 50  # with technique and backbone it must still be a folder's name


def prepare(
    *,
    path: str | os.PathLike,
    pool: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    judging: bool = False,
) -> Data:
    """Stores of the images in `path`; `pool` is another folder of images, to learn from without labels.

    Where folders of classes have no split, `test_share` (in 0..1) of each class judges; so it does, of `SHARE`, where
    labels are needed (`judging`) or come from a table of file and label, `labels`. Raises BadData, BadSetting.
    """
    root, walk = existing_folder(path), Walk()
    table = None if labels is None else Path(os.path.expanduser(labels)).absolute()
    share = _share_of(root, test_share, table, judging)
    parts = parts_of(root, walk, table=table, classed=share is not None)
    walk.tell(root, len(set(parts.pool.files).union(*(part.files for part in parts[1:] if part is not None))))
    if pool is not None:
        parts = parts._replace(pool=_other_pool(root, parts, pool))
    taken = parts.pool.limited(limit)
    size = chosen_size(image_size, _own_size([taken, *parts[1:]]) if image_size is None else DEFAULT_SIZE)
    name = f"folder-{visible(root.name)[:LONGEST_NAME]}"
    if parts.train is None:
        return Data(name, _store(name, "pool", taken, size), None, None)
    if parts.test is None:
        return _divided(name, parts, size, limit, share or SHARE, table, pool is None)
    train = _complete(_store(name, "train", parts.train, size))
    test = _complete(_store(name, "test", parts.test, size))
    if pool is None and len(taken.files) == len(parts.train.files):
        return Data(name, train, train, test)
    return Data(name, _store(name, "pool", taken, size), train, test)


def _share_of(root: Path, wanted: float | None, table: Path | None, judging: bool) -> float | None:
    """How much of each class judges; None where there is a split, or nobody asks for one."""
    if wanted is not None and not 0 < wanted < 1:
        raise BadSetting(f"test_share {wanted} is not between 0 and 1")
    if table is None and (wanted is not None or judging) and (layout := layout_of(root, quiet=True)):
        if wanted is not None:
            raise BadSetting(f"{root} is split already, into {layout.train.name} and {layout.test.name}: no test_share")
        return None
    if wanted is not None or table is not None:
        return wanted or SHARE
    names = [file.name for file in Walk().images(root)] if judging else []
    classes = sorted({name.split("/", 1)[0] for name in names})
    if len(classes) < 2 or not all("/" in name for name in names):
        return None
    shown = ", ".join(map(visible, classes[:5])) + (", ..." if len(classes) > 5 else "")
    say(f"{root} has no split: its {len(classes)} folders are taken for classes ({shown}); --test-share sets the split")
    return SHARE


def _other_pool(root: Path, parts: Parts, pool: str | os.PathLike) -> Part:
    if parts.train is None:
        raise BadData(f"{root} has no classes, so it is the pool already; leave {pool} out")
    unlabelled, walk = existing_folder(pool), Walk()
    whole = Part(unlabelled, images_below(unlabelled, walk))
    walk.tell(unlabelled, len(whole.files))
    return whole


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
