"""Pictures by their numbers: each depends on the seed, the split, its number and `colour_tie` alone."""

import numpy as np

from lilliput.datasets._scenes.outdoors import CLASSES, make_scene, picture

SPLITS = {"pool": 0, "train": 1, "test": 2}


def draw(
    label: str | int, rng: np.random.Generator, *, image_size: int, colour_tie: float
) -> tuple[np.ndarray, np.ndarray]:
    """One synthetic picture, uint8 [3, H, H], and its thing's visible part, uint8 0 or 1 [H, H]."""
    name = label if isinstance(label, str) else CLASSES[label]
    return picture(make_scene(name, rng, colour_tie), image_size)


def label_of(seed: int, split: str, number: int) -> int:
    """Every ten pictures hold every class once, in an order of their own."""
    block, place = divmod(number, len(CLASSES))
    return int(_generator(seed, split, 1, block).permutation(len(CLASSES))[place])


def draw_numbered(
    seed: int, split: str, number: int, *, image_size: int, colour_tie: float
) -> tuple[np.ndarray, np.ndarray]:
    """Picture `number` of a split, and its mask, as `draw` gives them."""
    rng = _generator(seed, split, 0, number)
    return draw(label_of(seed, split, number), rng, image_size=image_size, colour_tie=colour_tie)


def _generator(seed: int, split: str, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, SPLITS[split], purpose, number))))
