"""Few labels: the linear probe with a hundredth, a tenth and all of the labelled images.

As in Chen et al. (SimCLR), ICML 2020, section 6, on frozen features; means over draws of the labelled images.
"""

import math

import numpy as np
import torch

from lilliput.probes._exam import Exam
from lilliput.probes.linear import best_classifier

checkpoints = "last"
SHARES = {1: 5, 10: 3, 100: 1}  # per cent of the images to fit -> draws


def few_labels(exam: Exam):
    """Accuracy for each share, its standard deviation over the draws, and how many images a draw has.

    A draw has of every class its share, at least one image. The weight decay is chosen on the held-out tenth.
    """
    rng = np.random.default_rng(exam.seed)
    held_out, truth = exam.train_features[exam.held_out], exam.train_labels[exam.held_out]
    labels = exam.train.labels[exam.fit]
    for percent, draws in SHARES.items():
        found, told = [], []
        for _ in range(draws):
            rows = exam.fit[draw(labels, percent / 100, rng)]
            fitted = exam.train_features[rows], exam.train_labels[rows]
            classify, _ = best_classifier(*fitted, held_out, truth, len(exam.classes))
            found.append((classify(exam.test_features).argmax(1) == exam.test_labels).float().mean().item())
            told.append((classify(held_out).argmax(1) == truth).float().mean().item())
        yield from over_draws(percent, found, told, len(rows))


def over_draws(percent: int, found: list[float], told: list[float], images: int):
    """The metrics of a share, from the accuracies of its draws on test and held out."""
    yield f"accuracy_{percent}_percent", float(np.mean(found))
    yield f"held_out_accuracy_{percent}_percent", float(np.mean(told))
    yield f"deviation_{percent}_percent", float(torch.tensor(found).std()) if len(found) > 1 else 0.0
    yield f"images_{percent}_percent", float(images)


def draw(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of that share (0..1) of every class, of each at least one."""
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept.append(rng.permutation(members)[: max(1, math.ceil(share * len(members)))])
    return np.sort(np.concatenate(kept))
