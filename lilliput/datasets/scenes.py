"""Scenes: synthetic outdoor pictures of ten kinds of things, with exact masks; the data set that needs no download.

Drawn here, so free of other people's rights; the classes are those of STL-10. Each picture depends only on the seed,
the split, its number and `colour_tie`, so a smaller set holds the first pictures of a larger one.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import PIL

from lilliput.data.store import Data, Store, chosen_size, default_size
from lilliput.data.writing import prepared
from lilliput.datasets import _scenes
from lilliput.datasets._scenes.outdoors import classes, make_scene, picture
from lilliput.errors import BadSetting, LilliputError
from lilliput.system.progress import task

splits = {"pool": 0, "train": 1, "test": 2}
fewest_for_helpers = 150  # below, starting processes takes longer than drawing


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
    size = chosen_size(image_size, default_size)
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
    stores = [_store(split, counts[split], size, seed, colour_tie) for split in splits]
    return Data("scenes", *stores)


def draw(
    label: str | int, rng: np.random.Generator, *, image_size: int, colour_tie: float
) -> tuple[np.ndarray, np.ndarray]:
    """One synthetic picture, uint8 [3, H, H], and its thing's visible part, uint8 0 or 1 [H, H]."""
    name = label if isinstance(label, str) else classes[label]
    return picture(make_scene(name, rng, colour_tie), image_size)


def label_of(seed: int, split: str, number: int) -> int:
    """Every ten pictures hold every class once, in an order of their own."""
    block, place = divmod(number, len(classes))
    return int(_generator(seed, split, 1, block).permutation(len(classes))[place])


def draw_numbered(seed: int, split: str, number: int, *, image_size: int, colour_tie: float):
    """Picture `number` of a split, and its mask."""
    rng = _generator(seed, split, 0, number)
    return draw(label_of(seed, split, number), rng, image_size=image_size, colour_tie=colour_tie)


def _generator(seed: int, split: str, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, splits[split], purpose, number))))


def _store(split: str, count: int, size: int, seed: int, colour_tie: float) -> Store:
    labelled = split != "pool"
    return prepared(
        name="scenes",
        split=split,
        key=[_drawing(), split, count, size, seed, float(colour_tie)],
        source=f"generated, seed {seed}, colour_tie {colour_tie}",
        image_size=size,
        count=count,
        fill=_fill(split, count, size, seed, colour_tie),
        labels=[label_of(seed, split, number) for number in range(count)] if labelled else None,
        classes=classes if labelled else None,
        masks=True,
    )


def _drawing() -> list[str]:
    """What else the pixels depend on: the code that draws and Pillow, which fills the polygons."""
    drawings = Path(_scenes.__file__).parent
    files = drawings / "outdoors.py", drawings / "silhouettes.py", Path(__file__)
    code = b"".join(file.read_bytes() for file in files)
    return [hashlib.sha256(code).hexdigest(), PIL.__version__]


def _fill(split: str, count: int, size: int, seed: int, colour_tie: float) -> Callable:
    def fill(images: np.ndarray, masks: np.ndarray | None) -> None:
        assert masks is not None
        drawn = _drawn_by_helpers if count >= fewest_for_helpers and _cores() > 1 else _drawn_here
        with task(f"drawing scenes {split}", count) as advance:
            for number, (image, mask) in enumerate(drawn(seed, split, count, size, colour_tie)):
                images[number], masks[number] = image, mask
                advance(1)

    return fill


Pictures = Iterator[tuple[np.ndarray, np.ndarray]]


def _drawn_here(
    seed: int, split: str, count: int, size: int, colour_tie: float, first: int = 0, step: int = 1
) -> Pictures:
    for number in range(first, count, step):
        yield draw_numbered(seed, split, number, image_size=size, colour_tie=colour_tie)


def _drawn_by_helpers(seed: int, split: str, count: int, size: int, colour_tie: float) -> Pictures:
    """The same pictures from one process for each core; each draws every n-th and sends it through its pipe.

    Plain processes of our own: multiprocessing would run the caller's script again, which a script without a
    `__main__` guard does not survive, and forking is unsafe once torch has started threads.
    """
    helpers = min(_cores(), 16)
    pixels = size * size
    with ExitStack() as stack:
        pipes = [stack.enter_context(_helper(seed, split, count, size, colour_tie, k, helpers)) for k in range(helpers)]
        for number in range(count):
            sent = pipes[number % helpers].read(4 * pixels)
            if len(sent) < 4 * pixels:
                raise LilliputError(f"a process that draws scenes ended before picture {number} of {count}")
            planes = np.frombuffer(sent, np.uint8).reshape(4, size, size)
            yield planes[:3], planes[3]


@contextmanager
def _helper(*order) -> Iterator:
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", __name__, *map(str, order)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield process.stdout
    finally:
        process.kill()  # it has sent all that was wanted, or something went wrong
        process.communicate()


def _send(seed: str, split: str, count: str, size: str, colour_tie: str, first: str, step: str) -> None:
    for image, mask in _drawn_here(int(seed), split, int(count), int(size), float(colour_tie), int(first), int(step)):
        sys.stdout.buffer.write(image.tobytes() + mask.tobytes())
    sys.stdout.buffer.flush()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    _send(*sys.argv[1:])
