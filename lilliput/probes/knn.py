"""k nearest neighbours: no training at all; by Euclidean distance, as the paper, and by cosine.

Wu, Xiong, Yu, Lin, CVPR 2018, https://arxiv.org/abs/1805.01978, section 3.4, with plain majority votes.
"""

import numpy as np
import torch
from torch import Tensor

from lilliput.probes import LabelledExam, accuracy

BLOCK = 1024  # queries at a time: bounds memory to BLOCK x N distances
DISTANCES = ("euclidean", "cosine")


def knn(exam: LabelledExam, *, neighbours: int = 20):
    """Accuracy on test with all labelled images as the bank, and of the held-out tenth with the other nine tenths."""
    features, labels, count = exam.train_features, exam.train_labels, len(exam.classes)
    test = vote(exam.test_features, features, labels, count, neighbours)
    held_out = held_out_accuracy(features, labels, exam.fit, exam.held_out, count, neighbours)
    for name in DISTANCES:
        yield f"accuracy_{name}", accuracy(test[name], exam.test_labels)
        yield f"held_out_accuracy_{name}", held_out[name]


def held_out_accuracy(
    features: Tensor,
    labels: Tensor,
    fit: np.ndarray,
    held_out: np.ndarray,
    classes: int,
    neighbours: int = 20,
) -> dict[str, float]:
    """For each distance the accuracy (0..1) of the rows `held_out` with the rows `fit` as the bank.

    Of features [N, D] and labels [N], numbers below `classes`.
    """
    votes = vote(features[held_out], features[fit], labels[fit], classes, neighbours)
    return {name: accuracy(predicted, labels[held_out]) for name, predicted in votes.items()}


def vote(queries: Tensor, bank: Tensor, labels: Tensor, classes: int, neighbours: int) -> dict[str, Tensor]:
    """[Q, D], [N, D], [N] -> for each distance [Q]: the commonest label among the nearest; in a tie, the nearer's."""
    neighbours = min(neighbours, len(bank))
    # the order's share is too small to outvote a neighbour, so it only breaks ties
    weight = 1 + torch.linspace(1, 0, neighbours, device=bank.device) / (2 * neighbours**2)
    guesses: dict[str, list[Tensor]] = {name: [] for name in DISTANCES}
    for block in queries.split(BLOCK):
        for name, near in nearness(block, bank).items():
            nearest = near.topk(neighbours, sorted=True).indices
            votes = torch.zeros(len(block), classes, device=bank.device)
            votes.scatter_add_(1, labels[nearest], weight.expand(len(block), -1))
            guesses[name].append(votes.argmax(1))
    return {name: torch.cat(parts) for name, parts in guesses.items()}


def nearness(queries: Tensor, bank: Tensor) -> dict[str, Tensor]:
    """[Q, D], [N, D] -> [Q, N] for each distance: for every query, larger where it is smaller.

    Both come of one product of matrices: |q - b|^2 = |q|^2 - 2 (q b - |b|^2 / 2), and |q| is the same for all b. It is
    of what is left without the bank's mean, since features lie far from zero and near each other.
    """
    mean = bank.mean(0)
    from_query, from_bank = queries - mean, bank - mean
    product = from_query @ from_bank.T
    cosine = product + (from_query @ mean)[:, None] + bank @ mean  # q b again
    return {
        "euclidean": product - from_bank.square().sum(1) / 2,
        "cosine": cosine.div_(bank.norm(dim=1).clamp(min=1e-12)),
    }
