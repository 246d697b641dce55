"""Retrieval: of the images whose features are nearest to a test image's, how many are of its class.

Euclidean distance, as in figure 4 of the study that we follow; mean average precision as in Philbin et al., CVPR 2007.
"""

import torch
from torch import Tensor

from lilliput.probes import LabelledExam
from lilliput.probes.knn import BLOCK, nearness


def retrieval(exam: LabelledExam, *, depths: tuple[int, ...] = (1, 5, 10)):
    """Precision of the nearest labelled images and mean average precision over all of them, whole and by class."""
    precision, average = ranked(exam.test_features, exam.test_labels, exam.train_features, exam.train_labels, depths)
    for depth, values in precision.items():
        yield f"precision_at_{depth}", values.mean().item()
    yield "mean_average_precision", average.mean().item()
    for number, name in enumerate(exam.classes):
        own = exam.test_labels == number
        yield f"precision_at_{depths[-1]}/{name}", precision[depths[-1]][own].mean().item()
        yield f"mean_average_precision/{name}", average[own].mean().item()


def ranked(
    queries: Tensor, truth: Tensor, bank: Tensor, labels: Tensor, depths: tuple[int, ...]
) -> tuple[dict[int, Tensor], Tensor]:
    """Per query [Q]: the share of its class among the nearest, for every depth; and its average precision."""
    precision: dict[int, list[Tensor]] = {depth: [] for depth in depths}
    average = []
    for block, own in zip(queries.split(BLOCK), truth.split(BLOCK), strict=True):
        order = nearness(block, bank)["euclidean"].argsort(1, descending=True)
        right = (labels[order] == own[:, None]).float()  # [B, N]
        so_far = right.cumsum(1) / torch.arange(1, len(bank) + 1, device=bank.device)
        average.append((so_far * right).sum(1) / right.sum(1).clamp(min=1))
        for depth in depths:
            precision[depth].append(so_far[:, min(depth, len(bank)) - 1])
    return {depth: torch.cat(parts) for depth, parts in precision.items()}, torch.cat(average)
