"""A saved encoder before labelled images: what every probe gets to see."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lilliput.data.store import Images
from lilliput.errors import BadData
from lilliput.probes._features import extract
from lilliput.system.plan import Plan

HELD_OUT = 10  # one labelled training image in ten is never fitted: it chooses checkpoints and settings


class Exam:
    """Labelled images and one encoder: features once for all probes, nine tenths to fit on, a tenth held out.

    `fit` and `held_out` are indices into the training images; every class has its share in both.
    """

    def __init__(self, encoder: Any, train: Images, test: Images, *, plan: Plan, seed: int = 0, label: str = ""):
        self.encoder, self.train, self.test, self.plan, self.seed, self.label = encoder, train, test, plan, seed, label
        self.classes = train.classes
        self.fit, self.held_out = split(train.labels)
        self.kept: dict[str, Any] = {}  # what one probe leaves for others
        self.flags: dict[str, str] = {}  # probe -> what is wrong with its figures

    @cached_property
    def train_features(self) -> Tensor:
        """[N, dim] of the labelled training images."""
        return extract(self.encoder, self.train, plan=self.plan, label=f"{self.label} features, train".strip())

    @cached_property
    def test_features(self) -> Tensor:
        """[M, dim] of the test images."""
        return extract(self.encoder, self.test, plan=self.plan, label=f"{self.label} features, test".strip())

    @cached_property
    def train_labels(self) -> Tensor:
        return torch.as_tensor(self.train.labels, device=self.plan.device)

    @cached_property
    def test_labels(self) -> Tensor:
        return torch.as_tensor(self.test.labels, device=self.plan.device)


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices to fit on and indices held out: within every class, each tenth image in the store's order."""
    rank = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    held_out = rank % HELD_OUT == HELD_OUT - 1
    if not held_out.any():
        raise BadData(f"no class has {HELD_OUT} training images, so none can be held out; add labelled images")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def score(predicted: Tensor, exam: Exam, held_out: Tensor | None = None):
    """Yield the metrics of a classifier: accuracy on test, by class, confusions; and on the held-out images.

    `predicted` [M] for the test images, `held_out` [H] for exam.held_out; class numbers.
    """
    truth = exam.test_labels
    right = predicted == truth
    yield "accuracy", right.float().mean().item()
    if held_out is not None:
        yield "held_out_accuracy", (held_out == exam.train_labels[exam.held_out]).float().mean().item()
    for number, name in enumerate(exam.classes):
        yield f"accuracy/{name}", right[truth == number].float().mean().item()
    pairs, counts = torch.stack([truth, predicted]).unique(dim=1, return_counts=True)
    for (true, guess), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        yield f"confusion/{exam.classes[true]}/{exam.classes[guess]}", count
