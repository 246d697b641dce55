"""Labels to doubt: how likely a linear probe, fitted to the other images, takes each image's own label to be.

The ranking by self-confidence of Northcutt, Jiang, Chuang, Confident Learning, JAIR 2021,
https://arxiv.org/abs/1911.00068, section 3.2. What is flagged is measured against chance; their thresholds flag half of
the images where a probe knows little.
"""

from typing import NamedTuple

import numpy as np
import torch

from lilliput.probes.linear import classifier

FOLDS = 5
DECAY = 5e-2  # stronger than a judge's: it keeps the probe from being sure of what it was taught wrongly
WRONG, HARD = 0.2, 0.5  # of chance: own labels less likely than this are likely wrong, or hard
FEWEST = 2 * FOLDS  # images of a class, below which nothing is learned of it


class Doubt(NamedTuple):
    """Of every labelled image: how likely its label is, and which is the likeliest."""

    own: np.ndarray  # [N], 0..1
    guess: np.ndarray  # [N], numbers of classes
    chance: float  # a class's share, if all were even


def doubted(features: np.ndarray, labels: np.ndarray, classes: int) -> Doubt:
    """Of features [N, D] and labels [N], numbers below `classes`, each image by a probe that has not seen it.

    Every class has at least FEWEST images, and there are two or more.
    """
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    odds = torch.zeros(len(x), classes)
    folds = torch.from_numpy(_folds(labels))
    for fold in range(FOLDS):
        asked = folds == fold
        classify, _ = classifier(x[~asked], y[~asked], classes, decay=DECAY)
        odds[asked] = classify(x[asked]).softmax(1)
    own = odds.gather(1, y[:, None])[:, 0]
    return Doubt(own.numpy(), odds.argmax(1).numpy(), 1 / classes)


def wrong_and_hard(doubt: Doubt, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label is likely wrong, and rows that are hard, the least likely label first; none told right."""
    order = np.argsort(doubt.own, kind="stable")
    share = doubt.own[order] / doubt.chance
    other = doubt.guess[order] != labels[order]
    return order[other & (share < WRONG)], order[other & (share >= WRONG) & (share < HARD)]


def _folds(labels: np.ndarray) -> np.ndarray:
    """The fold of each image: within every class by lot, as neighbours in a list are often alike."""
    rng = np.random.default_rng(0)
    folds = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        folds[own] = np.arange(len(own)) % FOLDS
    return folds
