"""The same pictures from one process, or from one for each core.

Plain processes of our own: multiprocessing would run the caller's script again, which a script without a `__main__`
guard does not survive, and forking is unsafe once torch has started threads.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.datasets._scenes.numbered import draw_numbered
from lilliput.errors import LilliputError
from lilliput.system.machine import cores

FEWEST_FOR_HELPERS = 150  # pictures; for less, starting processes takes longer than drawing
MOST_HELPERS = 16

Pictures = Iterator[tuple[np.ndarray, np.ndarray]]  # uint8 [3, H, H] and its mask, uint8 0 or 1 [H, H]


@dataclass(frozen=True)
class Order:
    """Which pictures to draw: the first `count` of a split."""

    seed: int
    split: str
    count: int
    size: int  # pixels a side
    colour_tie: float


def drawn(order: Order) -> Pictures:
    """The pictures in the order of their numbers, drawn as quickly as this machine can."""
    return drawn_by_helpers(order) if order.count >= FEWEST_FOR_HELPERS and cores() > 1 else drawn_here(order)


def drawn_here(order: Order, first: int = 0, step: int = 1) -> Pictures:
    """Every so many-th picture, from the first, drawn by this process."""
    for number in range(first, order.count, step):
        yield draw_numbered(order.seed, order.split, number, image_size=order.size, colour_tie=order.colour_tie)


def drawn_by_helpers(order: Order) -> Pictures:
    """All pictures from one process for each core; each draws every n-th and sends it through its pipe."""
    helpers = min(cores(), MOST_HELPERS)
    pixels = order.size**2
    with ExitStack() as stack:
        pipes = [stack.enter_context(_helper(order, first, helpers)) for first in range(helpers)]
        for number in range(order.count):
            sent = pipes[number % helpers].read(4 * pixels)
            if len(sent) < 4 * pixels:
                raise LilliputError(f"a process that draws scenes ended before picture {number} of {order.count}")
            planes = np.frombuffer(sent, np.uint8).reshape(4, order.size, order.size)
            yield planes[:3], planes[3]


@contextmanager
def _helper(order: Order, first: int, step: int) -> Iterator[Any]:
    """The pipe from a process that draws; it ends with the block."""
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", __name__, *map(str, (*astuple(order), first, step))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield process.stdout
    finally:
        process.kill()  # it has sent all that was wanted, or something went wrong
        process.communicate()


def _send(seed: str, split: str, count: str, size: str, colour_tie: str, first: str, step: str) -> None:
    order = Order(int(seed), split, int(count), int(size), float(colour_tie))
    for image, mask in drawn_here(order, int(first), int(step)):
        sys.stdout.buffer.write(image.tobytes() + mask.tobytes())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _send(*sys.argv[1:])
