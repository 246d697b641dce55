"""The nearest of many features, by cosine, in blocks that memory takes."""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1024  # rows whose distances to all others are held at once


def centred(features: Tensor) -> Tensor:
    """[N, D] -> of length 1, without what all have in common: features lie far from zero and near each other."""
    return F.normalize(features - features.mean(0), dim=1)


def nearest(directions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of every row of [N, D], of length 1, the `count` most like it but itself (all others if fewer): cosines, nearest
    first, and rows, [N, K] each."""
    cosines, rows = [], []
    for first in range(0, len(directions), BLOCK):
        block = directions[first : first + BLOCK]
        likeness = block @ directions.T
        likeness[torch.arange(len(block)), torch.arange(first, first + len(block))] = -torch.inf
        best = likeness.topk(min(count, len(directions) - 1), dim=1)
        cosines.append(best.values)
        rows.append(best.indices)
    return torch.cat(cosines), torch.cat(rows)
