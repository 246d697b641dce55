"""Figures that several probes yield, by hand."""

import pytest
import torch

from lilliput.probes import accuracy, half_interval


def test_accuracy_is_the_share_of_right_predictions():
    assert accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.75


def test_half_of_an_interval_is_1_96_standard_errors():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])  # deviation (5 / 3) ** 0.5
    assert half_interval(values) == pytest.approx(1.96 * (5 / 3) ** 0.5 / 2)
