"""Geometry, of features whose shape is known."""

import numpy as np
import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.probes import Exam, effective_rank, extract
from lilliput.probes._features import singular_values
from lilliput.probes.geometry import STEEPEST, from_gaussian, geometry, power
from tests.conftest import CPU, rng


def test_geometry_tells_dead_units_and_features_that_do_not_move(scenes):
    class Half(nn.Module):
        def forward(self, images):
            live = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
            return torch.cat([live, torch.full_like(live, 0.3)], 1)

    class Constant(nn.Module):
        def forward(self, images):
            return torch.ones(len(images), 4)

    half = dict(geometry(Exam(Half(), scenes.train, plan=CPU)))
    assert half["dead_units"] == pytest.approx(0.5) and 1 <= half["effective_rank"] <= 12
    constant = dict(geometry(Exam(Constant(), scenes.train, plan=CPU)))
    assert constant["alignment"] == pytest.approx(0, abs=1e-6) and constant["uniformity"] == pytest.approx(0, abs=1e-5)


def test_crops_of_an_image_differ_in_pixels_and_are_those_of_the_seed(scenes):
    first, again, other = (dict(geometry(Exam(nn.Flatten(), scenes.train, plan=CPU, seed=s))) for s in (0, 0, 1))
    assert 0 < first["alignment"] < 4 and first == again
    assert first["alignment"] != other["alignment"] and first["spread"] == other["spread"]


def test_the_rank_of_many_dimensions_is_not_that_of_the_first_few_hundred_images():
    """It was of 256 images: 537 and 1,199 dimensions read 213 and 245."""
    prepare = catalog.dataset("scenes")
    images = prepare(image_size=32, limit=2, pool_count=2, train_count=600, test_count=300).train
    exam = Exam(nn.Flatten(), images, plan=CPU)
    whole = effective_rank(extract(exam.encoder, images, plan=CPU))
    assert len(images) == 600 and dict(geometry(exam))["effective_rank"] == pytest.approx(whole, rel=1e-3)


def test_the_power_of_a_spectrum_that_has_one_is_found_beyond_its_head():
    ranks = torch.arange(1, 201, dtype=torch.double)
    spectra = {a: ranks**-a for a in (0.5, 1.0, 1.7)}
    assert [power(spectrum) for spectrum in spectra.values()] == pytest.approx(list(spectra))
    spectra[1.0][:10] = 50.0  # the head follows no power, and is not asked
    assert power(spectra[1.0]) == pytest.approx(1.0)
    assert power(ranks[:12] ** -2) == pytest.approx(2.0) and power(torch.tensor([1.0, 0.0])) == STEEPEST


def test_the_power_is_that_of_weighted_least_squares():
    noisy = torch.rand(150, generator=rng()).double().sort(descending=True).values
    ranks = np.arange(11, 101)
    slope = np.polyfit(np.log(ranks), np.log(noisy[10:100].numpy()), 1, w=ranks**-0.5)[0]  # numpy squares its weights
    assert power(noisy) == pytest.approx(-slope)


def test_a_spectrum_is_that_of_the_covariance():
    features = torch.randn(50, 6, generator=rng()) * torch.arange(1, 7)
    expected = np.linalg.eigvalsh(np.cov(features.double().numpy().T, bias=True))[::-1]
    assert (singular_values(features).square() / len(features)).numpy() == pytest.approx(expected)


def test_nesum_counts_the_dimensions_of_white_features_and_is_1_for_one_line():
    class Signs(nn.Module):
        """Of every image the corners of a cube in turn, as many as there are images."""

        def __init__(self, width):
            super().__init__()
            self.width, self.seen = width, 0

        def forward(self, images):
            numbers = self.seen + torch.arange(len(images))
            self.seen = (self.seen + len(images)) % 200
            return ((numbers[:, None] >> torch.arange(3)) % 2 * 2.0 - 1)[:, : self.width].float() @ torch.eye(
                self.width, 4
            )

    scenes = catalog.dataset("scenes")(image_size=16, limit=2, pool_count=2, train_count=200, test_count=10).train
    assert dict(geometry(Exam(Signs(3), scenes, plan=CPU)))["nesum"] == pytest.approx(3.0)
    assert dict(geometry(Exam(Signs(1), scenes, plan=CPU)))["nesum"] == pytest.approx(1.0)


def test_gaussian_features_of_any_place_and_size_are_near_a_gaussian_and_stretched_ones_are_not():
    gaussian = torch.randn(4000, 16, generator=rng())
    near, moved = (from_gaussian(one, CPU, 0) for one in (gaussian, 7 * gaussian + 3))
    assert near < 1e-3 and moved == pytest.approx(near, rel=1e-2)
    stretched = gaussian * torch.tensor([8.0] + [1.0] * 15)
    point = torch.zeros(4000, 16).index_fill_(0, torch.tensor([0]), 1.0)
    assert near < from_gaussian(stretched, CPU, 0) < from_gaussian(point, CPU, 0)


def test_sigreg_of_one_direction_is_epps_and_pulleys_integral():
    """|mean of exp(i t x) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) over t from -3 to 3, of standardised x."""
    x = torch.rand(300, 1, generator=rng())
    z = ((x - x.mean()) / (x - x.mean()).square().mean().sqrt()).double().numpy()[:, 0]
    t = np.linspace(-3, 3, 2001)
    gap = np.abs(np.exp(1j * np.outer(t, z)).mean(1) - np.exp(-(t**2) / 2)) ** 2
    assert from_gaussian(x, CPU, 0) == pytest.approx(np.trapezoid(gap * np.exp(-(t**2) / 2), t), rel=1e-2)
