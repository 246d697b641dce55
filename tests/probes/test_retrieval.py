"""Retrieval, against brute force."""

import pytest
import torch

from lilliput.probes.retrieval import ranked
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
