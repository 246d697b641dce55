"""What is learned from shares of the labelled images: draws of them, and the metrics over the draws."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from lilliput.probes._exam import LabelledExam


class Accuracies(NamedTuple):
    """Of one draw, in 0..1."""

    test: float
    held_out: float


def over_draws(
    exam: LabelledExam, draws: Mapping[int, int], learned: Callable[[int, np.ndarray], Accuracies]
) -> Iterator[tuple[str, float]]:
    """For each share of the images to fit: mean accuracies, their standard deviation, and how many images a draw has.

    `draws`: per cent -> how many draws. `learned`: per cent and drawn rows of exam.train -> what they teach.
    """
    rng = np.random.default_rng(exam.seed)
    labels = exam.train.labels[exam.fit]
    for percent, count in draws.items():
        results = []
        for _ in range(count):
            rows = exam.fit[draw(labels, percent / 100, rng)]
            results.append(learned(percent, rows))
        test, held_out = zip(*results, strict=True)
        yield f"accuracy_{percent}_percent", float(np.mean(test))
        yield f"held_out_accuracy_{percent}_percent", float(np.mean(held_out))
        yield f"deviation_{percent}_percent", float(torch.tensor(test).std()) if count > 1 else 0.0
        yield f"images_{percent}_percent", float(len(rows))


def draw(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of that share (0..1) of every class, of each at least one, in order."""
    drawn = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn.append(rng.permutation(members)[: max(1, math.ceil(share * len(members)))])
    return np.sort(np.concatenate(drawn))
