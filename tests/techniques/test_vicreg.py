"""VICReg against equations 1 to 5 of its paper, written plainly."""

import pytest
import torch

from lilliput.techniques import vicreg
from tests.conftest import rng
from tests.techniques.conftest import resnet


def variance(z):
    return sum(max(0.0, 1 - (z[:, j].var().item() + 1e-4) ** 0.5) for j in range(z.shape[1])) / z.shape[1]


def covariance(z):
    n, d = z.shape
    mean = z.mean(0)
    matrix = sum(torch.outer(row - mean, row - mean) for row in z) / (n - 1)
    return sum(matrix[i, j].item() ** 2 for i in range(d) for j in range(d) if i != j) / d


def test_its_three_terms_are_the_papers():
    one, two = torch.randn(6, 4, generator=rng(1)) * 0.7, torch.randn(6, 4, generator=rng(2)) * 0.5
    near, spread, apart = vicreg.terms(one, two)
    assert near.item() == pytest.approx(((one - two) ** 2).sum().item() / (6 * 4), rel=1e-5)
    assert spread.item() == pytest.approx((variance(one) + variance(two)) / 2, rel=1e-5)
    assert apart.item() == pytest.approx(covariance(one) + covariance(two), rel=1e-4)


def test_features_that_vary_and_are_unrelated_lose_nothing():
    rows = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert [term.item() for term in vicreg.terms(rows, rows)] == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_loss_of_a_collapsed_network_is_that_of_guessing():
    technique = vicreg.VICReg(resnet, hidden=8, output=8)
    point = torch.ones(5, 8)
    weights = technique.invariance, technique.variance, technique.covariance
    loss = sum(weight * term for weight, term in zip(weights, vicreg.terms(point, point), strict=True))
    assert loss.item() == pytest.approx(technique.guessing(5), rel=1e-5)
