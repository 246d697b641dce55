"""Scenes: synthetic outdoor pictures of ten kinds of things, with exact masks; the data set that needs no download.

Drawn here, so free of other people's rights; the classes are those of STL-10. Each picture depends only on the seed,
the split, its number and `colour_tie`, so a smaller set holds the first pictures of a larger one.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL

from lilliput.data.store import DEFAULT_SIZE, Data, Store, chosen_size
from lilliput.data.writing import prepared
from lilliput.datasets import _scenes
from lilliput.datasets._scenes.helpers import Order, drawn
from lilliput.datasets._scenes.numbered import SPLITS, label_of
from lilliput.datasets._scenes.outdoors import CLASSES
from lilliput.errors import BadSetting
from lilliput.system.progress import task


def prepare(
    *,
    image_size: int | None = None,
    limit: int | None = None,
    pool_count: int = 4000,
    train_count: int = 1000,
    test_count: int = 1000,
    seed: int = 0,
    colour_tie: float = 0.5,
) -> Data:
    """Synthetic pictures of ten classes, balanced; the pool has no labels.

    `colour_tie` is the probability with which a colour (the thing's, the sky's, the ground's) is the one that goes with
    the class rather than any: at 1 airplanes are before blue and cars are red, at 0 these colours know of no class.
    Sky, sea, grass or road as such go with the class in two thirds of the pictures or more, whatever the tie.
    """
    size = chosen_size(image_size, DEFAULT_SIZE)
    if not 0 <= colour_tie <= 1:
        raise BadSetting(f"colour_tie {colour_tie} is outside 0 to 1")
    if seed < 0:
        raise BadSetting(f"seed {seed} is negative; give 0 or more")
    counts = {"pool": pool_count, "train": train_count, "test": test_count}
    for split, count in counts.items():
        if count < 1:
            raise BadSetting(f"{split}_count {count} leaves no image; give 1 or more")
    if limit is not None:
        if limit < 1:
            raise BadSetting(f"limit {limit} leaves no image; give 1 or more, or leave it out for all")
        counts["pool"] = min(pool_count, limit)
    stores = [_store(Order(seed, split, counts[split], size, colour_tie)) for split in SPLITS]
    return Data("scenes", *stores)


def _store(order: Order) -> Store:
    labelled = order.split != "pool"
    return prepared(
        name="scenes",
        split=order.split,
        key=[_drawing(), order.split, order.count, order.size, order.seed, float(order.colour_tie)],
        source=f"generated, seed {order.seed}, colour_tie {order.colour_tie}",
        image_size=order.size,
        count=order.count,
        fill=_fill(order),
        labels=[label_of(order.seed, order.split, number) for number in range(order.count)] if labelled else None,
        classes=CLASSES if labelled else None,
        masks=True,
    )


def _drawing() -> list[str]:
    """What else the pixels depend on: the code that draws and Pillow, which fills the polygons."""
    folder = Path(_scenes.__file__).parent
    code = b"".join((folder / f"{module}.py").read_bytes() for module in ("outdoors", "silhouettes", "numbered"))
    return [hashlib.sha256(code).hexdigest(), PIL.__version__]


def _fill(order: Order) -> Callable:
    def fill(images: np.ndarray, masks: np.ndarray) -> None:
        with task(f"drawing scenes {order.split}", order.count) as advance:
            for number, (image, mask) in enumerate(drawn(order)):
                images[number], masks[number] = image, mask
                advance(1)

    return fill
