"""Randomness by number: seeds of seeds, and layers initialised under one."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generators hold this seed within the block, and what they held before after it.

    For what takes no generator: the initialisation of layers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def epoch_seed(seed: int, epoch: int) -> int:
    """One number from two, so that no two (seed, epoch) share a stream."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
