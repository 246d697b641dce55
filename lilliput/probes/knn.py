"""k nearest neighbours: no training at all; by Euclidean distance, as the paper, and by cosine.

Wu, Xiong, Yu, Lin, CVPR 2018, https://arxiv.org/abs/1805.01978, section 3.4, with plain majority votes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.features import Exam

BLOCK = 1024  # queries at a time: bounds memory to BLOCK x N distances


def knn(exam: Exam, *, neighbours: int = 20):
    """Accuracy on test with all labelled images as the bank, and of the held-out tenth with the other nine tenths."""
    train, labels = exam.train_features, exam.train_labels
    for name, prepare in (("euclidean", lambda f: f), ("cosine", lambda f: F.normalize(f, dim=1))):
        bank, count = prepare(train), len(exam.classes)
        guess = vote(prepare(exam.test_features), bank, labels, count, neighbours)
        yield f"accuracy_{name}", (guess == exam.test_labels).float().mean().item()
        guess = vote(bank[exam.held_out], bank[exam.fit], labels[exam.fit], count, neighbours)
        yield f"held_out_accuracy_{name}", (guess == labels[exam.held_out]).float().mean().item()


def vote(queries: Tensor, bank: Tensor, labels: Tensor, classes: int, neighbours: int) -> Tensor:
    """[Q, D], [N, D], [N] -> [Q]: the commonest label among the nearest; in a tie, the nearer neighbours' label."""
    neighbours = min(neighbours, len(bank))
    # the order's share is too small to outvote a neighbour, so it only breaks ties
    weight = 1 + torch.linspace(1, 0, neighbours, device=bank.device) / (2 * neighbours**2)
    guesses = []
    for block in queries.split(BLOCK):
        nearest = torch.cdist(block, bank).topk(neighbours, largest=False, sorted=True).indices
        votes = torch.zeros(len(block), classes, device=bank.device)
        votes.scatter_add_(1, labels[nearest], weight.expand(len(block), -1))
        guesses.append(votes.argmax(1))
    return torch.cat(guesses)
