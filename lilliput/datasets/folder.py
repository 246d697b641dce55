"""Any folder of images: folders of classes give labels, with a split or to be split; else all images have none.

Formats: what Pillow reads of `lilliput.images.decode.FORMATS`, known by content. The split may be called train and
test, training and testing, or val, in any case; `unlabeled` beside them joins the pool. What is passed over (hidden
files, other files, thumbnails of file servers, folders that cannot be read, Lilliput's own results) is counted aloud.
"""

import os
from pathlib import Path

from lilliput.data.split import SHARE
from lilliput.data.store import Data
from lilliput.data.tree import Part, Parts, existing_folder, images_below, layout_of, parts_of
from lilliput.data.walk import Walk
from lilliput.datasets import _files
from lilliput.errors import BadData, BadSetting
from lilliput.system.progress import say
from lilliput.system.visible import visible

FOLDER = "folder-"  # begins the name of what a folder holds, which may be that of a data set
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
    name = f"{FOLDER}{visible(root.name)[:LONGEST_NAME]}"
    return _files.data_of(
        name, parts, image_size=image_size, limit=limit, share=share or SHARE, table=table, own=pool is None
    )


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
