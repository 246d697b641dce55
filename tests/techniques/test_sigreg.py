"""SIGReg against its integral by quadrature, and against draws of a Gaussian."""

import math

import pytest
import torch
from scipy.integrate import quad

from lilliput.techniques import sigreg
from tests.conftest import rng
from tests.techniques.conftest import resnet


def epps_pulley(values):
    """n times the integral of |mean exp(i t x) - exp(-t^2 / 2)|^2 exp(-t^2 / 2), over -3..3."""

    def gap(t):
        real = sum(math.cos(t * x) for x in values) / len(values) - math.exp(-t * t / 2)
        imaginary = sum(math.sin(t * x) for x in values) / len(values)
        return (real**2 + imaginary**2) * math.exp(-t * t / 2)

    return len(values) * quad(gap, -3, 3)[0]


def test_the_statistic_is_the_integral():
    values = torch.randn(1, 12, 1, generator=rng()) * 2 + 0.5
    ours = sigreg.far_from_gaussian(values, torch.ones(1, 1), knots=400).item()
    assert ours == pytest.approx(epps_pulley(values.flatten().tolist()), rel=1e-3)
    assert sigreg.far_from_gaussian(values, torch.ones(1, 1), knots=17).item() == pytest.approx(ours, rel=0.02)


def test_a_direction_counts_by_its_angle_alone():
    projections, directions = torch.randn(2, 9, 4, generator=rng(1)), torch.randn(4, 3, generator=rng(2))
    each = [
        epps_pulley((view @ (direction / direction.norm())).tolist())
        for view in projections
        for direction in directions.T
    ]
    ours = sigreg.far_from_gaussian(projections, 5 * directions, knots=400).item()
    assert ours == pytest.approx(sum(each) / len(each), rel=1e-3)


def test_a_gaussian_is_nearer_than_what_is_too_narrow_too_wide_moved_or_two_points():
    gaussian, directions = torch.randn(1, 2000, 4, generator=rng(1)), torch.randn(4, 64, generator=rng(2))
    two = torch.where(gaussian > 0, 1.0, -1.0)
    near, *far = (
        sigreg.far_from_gaussian(sample, directions, knots=17).item()
        for sample in (gaussian, 0.5 * gaussian, 2 * gaussian, gaussian + 1, two)
    )
    assert min(far) > 5 * near


def test_views_are_drawn_to_their_mean():
    views = torch.randn(3, 5, 4, generator=rng())
    plainly = sum(((views[v, b] - views[:, b].mean(0)) ** 2).sum() for v in range(3) for b in range(5)) / (3 * 5 * 4)
    assert sigreg.far_from_mean(views).item() == pytest.approx(plainly.item(), rel=1e-5)


def test_guessing_is_the_loss_of_one_point_at_zero():
    technique = sigreg.SIGReg(resnet, hidden=8, output=4)
    assert technique.guessing(32) == pytest.approx(0.02 * epps_pulley([0.0] * 32), rel=0.02)
