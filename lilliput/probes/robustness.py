"""Robustness: what is left of the linear probe's accuracy when the test images are spoilt, and nothing else.

After Hendrycks, Dietterich, ICLR 2019, https://arxiv.org/abs/1903.12261, section 4, with our own corruptions
(lilliput/images/corrupt.py) and the loss of accuracy itself in place of its ratio to AlexNet's.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lilliput.data.store import spaced
from lilliput.images.corrupt import KINDS, corrupt
from lilliput.probes import LabelledExam, accuracy, half_interval
from lilliput.probes._features import extract
from lilliput.probes.linear import fitted

checkpoints = "last"
SEVERITIES = (1, 2, 3)


def robustness(exam: LabelledExam, *, most: int = 2000):
    """Of so many test images: accuracy by kind of corruption and severity, by kind, and over all; what is lost over all
    (with half of its 95 % interval over images), and that loss as a share of the accuracy on the images as they are.
    An encoder that tells little apart has little to lose: the accuracies say which is the case."""
    rows = spaced(len(exam.test), most)
    images, truth = exam.test.take(rows), exam.test_labels[torch.as_tensor(rows, device=exam.plan.device)]
    probe = exam.once(fitted)
    clean = (probe.classify(exam.test_features).argmax(1)[rows] == truth).float()
    right = []  # of each kind [M]: the share of its severities in which an image is told
    for kind in KINDS:
        of_kind = []
        for severity in SEVERITIES:
            label, change = exam.titled(f"robustness, {kind} {severity}"), corrupting(kind, severity, rows)
            features = extract(exam.encoder, images, plan=exam.plan, label=label, change=change)
            of_kind.append((probe.classify(features).argmax(1) == truth).float())
            yield f"accuracy_{kind}/{severity}", of_kind[-1].mean().item()
        right.append(torch.stack(of_kind).mean(0))
        yield f"accuracy_{kind}", right[-1].mean().item()
    corrupted = torch.stack(right).mean(0)
    yield "accuracy_clean", clean.mean().item()
    yield "accuracy_corrupted", corrupted.mean().item()
    yield "loss_corrupted", (clean - corrupted).mean().item()
    yield "loss_corrupted_half", half_interval(clean - corrupted)
    yield "relative_drop", ((clean - corrupted).mean() / clean.mean().clamp(min=1e-6)).item()
    held_out = probe.on_fit(exam.train_features[exam.held_out]).argmax(1)
    yield "held_out_accuracy", accuracy(held_out, exam.train_labels[exam.held_out])


def corrupting(kind: str, severity: int, rows: np.ndarray) -> Callable[[Tensor], Tensor]:
    """What spoils the images of these rows, batch by batch in their order.

    Each row is a seed: all encoders, of whatever run and seed, see the same spoilt images.
    """
    left = iter(rows.tolist())

    def change(pixels: Tensor) -> Tensor:
        return corrupt(pixels, kind, severity, [np.random.default_rng(r) for r in itertools.islice(left, len(pixels))])

    return change
