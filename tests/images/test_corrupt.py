"""Corruptions: by formula, by severity, and image by image."""

import math

import numpy as np
import pytest
import torch

from lilliput.images import augment
from lilliput.images.corrupt import (
    KINDS,
    corrupt,
    defocus_blur,
    gaussian_noise,
    haze,
    motion_blur,
    pixelate,
    shot_noise,
)
from tests.conftest import rng

every_kind = pytest.mark.parametrize("kind", KINDS)


def draws(count, first=0):
    return [np.random.default_rng(number) for number in range(first, first + count)]


def photographs(count=6, size=40):
    """Smooth pictures with an edge, brighter and darker ones."""
    images = augment.gaussian(torch.rand(count, 3, size, size, generator=rng()), torch.full((count,), 2.0), radius=6)
    images = (images - images.amin((1, 2, 3), keepdim=True)) / 0.5
    images[:, :, size // 3 :, size // 2 :] *= 0.3
    return images.clamp(0, 1)


@every_kind
@pytest.mark.parametrize("size", [16, 40, 96])
def test_what_is_corrupted_stays_in_range_and_moves_further_away_with_every_severity(kind, size):
    images = photographs(size=size)
    spoilt = [corrupt(images, kind, severity, draws(6)) for severity in (1, 2, 3)]
    assert all(one.min() >= 0 and one.max() <= 1 and one.shape == images.shape for one in spoilt)
    away = [(one - images).square().mean((1, 2, 3)) for one in spoilt]
    assert (away[0] > 0).all() and (away[1] > away[0]).all() and (away[2] > away[1]).all()


@every_kind
def test_an_image_is_corrupted_alike_in_any_batch_and_its_source_is_left_alone(kind):
    images = photographs()
    before = images.clone()
    whole = corrupt(images, kind, 2, draws(6))
    parts = [corrupt(images[place : place + 1], kind, 2, draws(1, place)) for place in range(6)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=2e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "motion_blur", "haze"])
def test_every_image_gets_its_own_draw(kind):
    same = photographs(1).expand(5, -1, -1, -1)
    assert len({one.numpy().tobytes() for one in corrupt(same, kind, 3, draws(5))}) == 5


def test_brightness_multiplies_and_contrast_draws_towards_the_mean_grey():
    images = photographs()
    torch.testing.assert_close(corrupt(images, "brightness", 2, draws(6)), (1.7 * images).clamp(0, 1))
    red, green, blue = images.unbind(1)
    mean = (0.2989 * red + 0.587 * green + 0.114 * blue).mean((1, 2))[:, None, None, None]
    torch.testing.assert_close(corrupt(images, "contrast", 2, draws(6)), mean + 0.35 * (images - mean))


def test_noise_has_the_deviation_that_it_says_and_shot_noise_that_of_counted_photons():
    grey = torch.full((4, 3, 96, 96), 0.4)
    assert (gaussian_noise(grey, 0.1, draws(4)) - grey).std().item() == pytest.approx(0.1, rel=0.02)
    counted = torch.poisson(grey * 50, generator=rng()) / 50
    ours = shot_noise(grey, 50, draws(4))
    assert ours.std().item() == pytest.approx(counted.std().item(), rel=0.03)
    assert ours.mean().item() == pytest.approx(0.4, abs=1e-3)
    assert torch.equal(shot_noise(torch.zeros(1, 3, 8, 8), 50, draws(1)), torch.zeros(1, 3, 8, 8))


def test_a_point_out_of_focus_is_a_disc_and_one_that_moves_a_line_and_both_keep_its_light():
    point = torch.zeros(3, 3, 65, 65)
    point[:, :, 32, 32] = 1
    disc = defocus_blur(point, 6 / 65, draws(3))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    far = (rows**2 + columns**2).sqrt()
    assert disc[far > 7].abs().max() < 1e-6 and disc[far < 6].min() > 1 / (math.pi * 49)
    lines = motion_blur(point, 20 / 65, draws(3))[:, 0]
    for line, draw in zip(lines, draws(3), strict=True):
        angle = draw.uniform(0, math.pi)
        beside = (columns * math.sin(angle) - rows * math.cos(angle)).abs()
        assert line[(beside > 1.01) | (far > 11.01)].abs().max() < 1e-6
        assert line[(beside < 0.3) & (far < 9)].min() > 0.5 / 21
    for blurred in (disc, *lines):
        assert blurred.sum().item() == pytest.approx(1, abs=1e-4)


def test_a_blur_is_the_sum_over_its_kernel_with_edges_reflected():
    from scipy.ndimage import convolve

    images = photographs(2, size=20)
    found = defocus_blur(images, 0.1, draws(2))  # a radius of two pixels
    places = np.hypot(*np.mgrid[-2:3, -2:3])
    kernel = np.clip(3 - places, 0, 1)
    for image, blurred in zip(images.numpy().reshape(6, 20, 20), found.numpy().reshape(6, 20, 20), strict=True):
        np.testing.assert_allclose(blurred, convolve(image, kernel / kernel.sum(), mode="mirror"), atol=2e-6)


def test_a_length_is_a_share_of_the_side():
    large = photographs(2, size=80)
    small = torch.nn.functional.interpolate(large, (40, 40), mode="area")
    for kind in ("defocus_blur", "motion_blur", "haze"):
        of_large = torch.nn.functional.interpolate(corrupt(large, kind, 3, draws(2)), (40, 40), mode="area")
        apart = (of_large - corrupt(small, kind, 3, draws(2))).abs().mean()
        assert apart < 0.2 * (corrupt(small, kind, 3, draws(2)) - small).abs().mean()


def test_a_pixelated_image_is_of_squares_of_their_mean_colour():
    images = torch.rand(2, 3, 32, 32, generator=rng(3))
    squares = images.view(2, 3, 8, 4, 8, 4).mean((3, 5))
    expected = squares.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(pixelate(images, 0.25, draws(2)), expected)


def test_haze_lies_between_the_image_and_white_and_hides_at_least_half_of_what_it_may():
    images = photographs()
    hidden = (haze(images, 0.6, draws(6)) - images) / (1 - images).clamp(min=1e-3)
    clear = images < 0.99
    assert hidden[clear].min() > 0.3 - 1e-3 and hidden[clear].max() < 0.6 + 1e-3
    assert hidden.amax((1, 2, 3)).min() > 0.55
