"""How many images of each class there are to learn from: ever fewer of them, as many of all, or so many of each.

The long tail is that of Cui, Jia, Lin, Song, Belongie, CVPR 2019, https://arxiv.org/abs/1901.05555, section 5.1: of C
classes in the order of their numbers, class c keeps n_max R^(-c / (C - 1)) images, n_max being those of the largest.
"""

import math
from typing import NamedTuple

import numpy as np

from lilliput.data.store import Data, Images
from lilliput.errors import BadSetting
from lilliput.system.progress import say

MEANT = "long-tail:RATIO (1 or more), equal, or per-class:N (1 or more)"


class Balance(NamedTuple):
    kind: str  # long-tail, equal or per-class
    number: float | None = None

    def __str__(self) -> str:
        return self.kind if self.number is None else f"{self.kind}-{self.number:.10g}"


def balance_of(words: str) -> Balance:
    """What is meant by words of the command line; BadSetting where it is none of MEANT."""
    kind, colon, text = str(words).partition(":")
    if kind == "equal" and not colon:
        return Balance(kind)
    try:
        number = float(text) if kind == "long-tail" else int(text)
    except ValueError:
        number = math.nan
    if kind not in ("long-tail", "per-class") or not 1 <= number < math.inf:
        raise BadSetting(f"balance {words!r} is not {MEANT}")
    return Balance(kind, number)


def balanced(data: Data, words: str, *, seed: int = 0) -> Data:
    """The data with so many of each class in pool and training images, drawn by the seed; the test images stay.

    Its name tells the balance. BadSetting where the pool has no labels, or a class has fewer images than wanted.
    """
    balance = balance_of(words)
    if data.train is None or not data.train.is_labelled or not data.pool.is_labelled:
        raise BadSetting(
            f"balance {words} needs classes, and the pool of {data.name} has none: take a data set whose training "
            "images are the pool, or a folder of classes"
        )
    train = _balanced(data.train, balance, seed)
    pool = train if data.pool is data.train else _balanced(data.pool, balance, seed)
    counts = np.bincount(train.labels, minlength=len(train.classes))
    say(f"{data.name}, {words}: {len(train)} of {len(data.train)} images, {counts.max()} to {counts.min()} of a class")
    return Data(f"{data.name}-{balance}", pool, train, data.test)


def _balanced(images: Images, balance: Balance, seed: int) -> Images:
    counts = np.bincount(images.labels, minlength=len(images.classes))
    rng = np.random.default_rng(seed)
    kept = [
        rng.permutation(np.flatnonzero(images.labels == label))[:count]
        for label, count in enumerate(_wanted(counts, balance, images.classes))
    ]
    return images.take(np.sort(np.concatenate(kept)))


def _wanted(counts: np.ndarray, balance: Balance, classes: list[str]) -> list[int]:
    """Images of each class, of `counts` [C]: at least one, and never more than there are."""
    if balance.number is None:
        return [int(counts[counts > 0].min())] * len(counts)
    if balance.kind == "per-class":
        least = counts.argmin()
        if counts[least] < balance.number:
            raise BadSetting(
                f"per-class:{balance.number} wants more than the {counts[least]} images of class {classes[least]!r}; "
                f"give {counts[least]} or less, or equal"
            )
        return [int(balance.number)] * len(counts)
    steps = np.arange(len(counts)) / max(1, len(counts) - 1)
    tail = counts.max() * balance.number**-steps
    return [max(1, math.floor(count + 1e-9)) for count in tail]  # 5000 / 100 is 50, whatever floats say
