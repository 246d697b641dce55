"""Barlow Twins against equations 1 and 2 of its paper, written plainly."""

import pytest
import torch

from lilliput.techniques import barlow_twins
from tests.conftest import rng
from tests.techniques.conftest import resnet


def plainly(one, two, redundancy):
    batch, width = one.shape
    one, two = one - one.mean(0), two - two.mean(0)
    total = 0.0
    for i in range(width):
        for j in range(width):
            c = sum(one[b, i] * two[b, j] for b in range(batch))
            c = c / ((one[:, i] ** 2).sum().sqrt() * (two[:, j] ** 2).sum().sqrt())
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


@pytest.mark.parametrize("redundancy", [0.0, 0.005, 1.0])
def test_the_loss_is_the_papers_formula(redundancy):
    one, two = torch.randn(7, 4, generator=rng(1)), torch.randn(7, 4, generator=rng(2))
    ours = barlow_twins.barlow(one, two, redundancy=redundancy).item()
    assert ours == pytest.approx(plainly(one, two, redundancy).item(), rel=1e-4)


def test_scale_and_place_of_a_feature_do_not_matter():
    one, two = torch.randn(9, 5, generator=rng(1)), torch.randn(9, 5, generator=rng(2))
    loss = barlow_twins.barlow(one, two, redundancy=0.1)
    moved = barlow_twins.barlow(one * torch.tensor([1.0, 2, 3, 4, 5]) - 3, two, redundancy=0.1)
    torch.testing.assert_close(moved, loss, rtol=1e-3, atol=1e-4)


def test_equal_views_of_features_that_have_nothing_to_do_with_each_other_lose_nothing():
    rows = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert barlow_twins.barlow(rows, rows, redundancy=1.0).item() == pytest.approx(0.0, abs=1e-6)


def test_a_scale_multiplies_loss_and_guess():
    plain, scaled = (barlow_twins.BarlowTwins(resnet, output=8, hidden=8, scale=scale) for scale in (1.0, 0.25))
    scaled.load_state_dict(plain.state_dict())
    views = plain.views(torch.rand(6, 3, 32, 32, generator=rng()), rng(1))
    torch.testing.assert_close(scaled(*views), 0.25 * plain(*views))
    assert scaled.guessing(6) == 0.25 * plain.guessing(6)


def test_guessing_is_the_mean_loss_of_unrelated_projections():
    technique = barlow_twins.BarlowTwins(resnet, output=32, hidden=8)
    losses = [
        barlow_twins.barlow(
            torch.randn(64, 32, generator=rng(n)), torch.randn(64, 32, generator=rng(n + 500)), redundancy=0.005
        )
        for n in range(100)
    ]
    assert torch.stack(losses).mean().item() == pytest.approx(technique.guessing(64), rel=0.02)
