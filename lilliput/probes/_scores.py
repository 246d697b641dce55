"""Figures that several probes yield: accuracy, whole and by class, confusions, halves of intervals."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lilliput.probes._exam import LabelledExam


def accuracy(predicted: Tensor, truth: Tensor) -> float:
    """The share (0..1) of the images [M] whose predicted class is the true one."""
    return (predicted == truth).float().mean().item()


def half_interval(values: Tensor) -> float:
    """Half of the 95 % interval of the mean of values [M]."""
    return 1.96 * values.std().item() / math.sqrt(len(values))


def score(predicted: Tensor, exam: LabelledExam, held_out: Tensor | None = None) -> Iterator[tuple[str, float]]:
    """Yield the metrics of a classifier: accuracy on test, by class, confusions; and on the held-out images.

    `predicted` [M] for the test images, `held_out` [H] for exam.held_out; class numbers.
    """
    truth = exam.test_labels
    right = predicted == truth
    yield "accuracy", right.float().mean().item()
    if held_out is not None:
        yield "held_out_accuracy", accuracy(held_out, exam.train_labels[exam.held_out])
    for number, name in enumerate(exam.classes):
        yield f"accuracy/{name}", right[truth == number].float().mean().item()
    pairs, counts = torch.stack([truth, predicted]).unique(dim=1, return_counts=True)
    for (true, guess), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        yield f"confusion/{exam.classes[true]}/{exam.classes[guess]}", count
