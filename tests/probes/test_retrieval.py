"""Retrieval, against brute force."""

from types import SimpleNamespace

import pytest
import torch

from lilliput.probes.retrieval import ranked, retrieval
from tests.conftest import rng


def test_precision_and_average_precision_are_those_of_brute_force():
    queries, bank = torch.randn(12, 3, generator=rng(1)), torch.randn(40, 3, generator=rng(2))
    truth, labels = torch.arange(12) % 3, torch.arange(40) % 3
    precision, average = ranked(queries, truth, bank, labels, (1, 5))
    for row, query in enumerate(queries):
        order = ((bank - query) ** 2).sum(1).argsort()
        right = [int(labels[place] == truth[row]) for place in order]
        assert precision[5][row].item() == pytest.approx(sum(right[:5]) / 5)
        assert precision[1][row].item() == right[0]
        so_far = [sum(right[: n + 1]) / (n + 1) for n, one in enumerate(right) if one]
        assert average[row].item() == pytest.approx(sum(so_far) / len(so_far), abs=1e-5)


def test_each_class_has_its_own_figures_of_which_the_whole_ones_are_the_mean():
    features = {
        "test_features": torch.randn(12, 3, generator=rng(1)),
        "train_features": torch.randn(40, 3, generator=rng(2)),
    }
    labels = {"test_labels": torch.arange(12) % 3, "train_labels": torch.arange(40) % 3}
    exam = SimpleNamespace(**features, **labels, classes=["a", "b", "c"])
    precision, average = ranked(exam.test_features, exam.test_labels, exam.train_features, exam.train_labels, (2, 4))
    found = dict(retrieval(exam, depths=(2, 4)))
    for number, name in enumerate(exam.classes):
        own = exam.test_labels == number
        assert found[f"precision_at_4/{name}"] == pytest.approx(precision[4][own].mean().item())
        assert found[f"mean_average_precision/{name}"] == pytest.approx(average[own].mean().item())
    assert found["precision_at_2"] == pytest.approx(precision[2].mean().item())
    parts = [found[f"mean_average_precision/{name}"] for name in exam.classes]  # as many images in each class
    assert found["mean_average_precision"] == pytest.approx(sum(parts) / 3)
