"""Colourisation against its paper's formulas written plainly, or cases worked by hand."""

import math

import pytest
import torch

from lilliput.images import colour
from lilliput.techniques import colourisation
from tests.conftest import rng
from tests.techniques.conftest import resnet

POINTS = colour.gamut_points()


def test_the_encoder_is_blind_to_colour_and_has_the_backbones_width():
    encoder = colourisation.OfLightness(resnet).eval()
    assert encoder.lightness.channels == 1 and encoder.dim == resnet().dim
    grey = torch.full((1, 3, 32, 32), 0.5)
    red, other = grey.clone(), grey.clone()
    red[:, 0] = 0.9
    lightness = colour.rgb_to_lab(red)[:, :1].mean()
    level = torch.linspace(0, 1, 2001)
    levels = colour.rgb_to_lab(level[:, None, None, None].expand(-1, 3, 1, 1))[:, 0, 0, 0]
    other[:] = level[(levels - lightness).abs().argmin()]  # grey of the same lightness
    torch.testing.assert_close(encoder(red), encoder(other), rtol=1e-2, atol=1e-3)
    assert not torch.allclose(encoder(red), encoder(grey), rtol=1e-2, atol=1e-3)


def test_a_colour_is_shared_among_its_five_nearest_bins_by_a_gaussian_of_five_steps():
    ab = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    shares = colourisation.near_bins(ab)[0, :, 0, 0]
    distance = [math.dist((3, -4), point) for point in POINTS.tolist()]
    nearest = sorted(range(313), key=lambda n: distance[n])[:5]
    weight = {n: math.exp(-(distance[n] ** 2) / 50) for n in nearest}
    plainly = torch.tensor([weight.get(n, 0.0) / sum(weight.values()) for n in range(313)])
    torch.testing.assert_close(shares, plainly, rtol=1e-3, atol=1e-5)


def test_weights_are_one_on_average_over_what_was_shown_and_larger_for_rarer_colours():
    shown = torch.rand(313, generator=rng()).pow(4) * 1000
    weights = colourisation.rarity(shown, evened=0.5)
    kernel = torch.tensor([[math.exp(-(math.dist(p, q) ** 2) / 50) for p in POINTS.tolist()] for q in POINTS.tolist()])
    smooth = (kernel / kernel.sum(0)) @ (shown / shown.sum())
    plainly = 1 / (0.5 * smooth + 0.5 / 313)
    torch.testing.assert_close(weights, plainly / (smooth * plainly).sum(), rtol=1e-4, atol=1e-5)
    assert (smooth * weights).sum().item() == pytest.approx(1, rel=1e-4)
    assert weights[smooth.argmin()] == weights.max() and weights[smooth.argmax()] == weights.min()


def test_evened_out_wholly_all_colours_weigh_the_same():
    weights = colourisation.rarity(torch.rand(313, generator=rng()), evened=1.0)
    torch.testing.assert_close(weights, torch.ones(313))


def test_the_loss_is_the_weighed_cross_entropy_cell_by_cell():
    logits, wanted = torch.randn(2, 313, 2, 3, generator=rng(1)), torch.rand(2, 313, 2, 3, generator=rng(2))
    weights = torch.rand(2, 2, 3, generator=rng(3))
    total = 0.0
    for image in range(2):
        for row in range(2):
            for column in range(3):
                own = logits[image, :, row, column]
                log = own - own.exp().sum().log()
                total -= weights[image, row, column] * (wanted[image, :, row, column] * log).sum()
    assert colourisation.painted(logits, wanted, weights).item() == pytest.approx(total.item() / 12, rel=1e-5)


def test_a_painter_that_knows_no_more_than_how_common_colours_are_has_the_loss_of_guessing(images):
    technique = colourisation.Colourisation(resnet)
    torch.nn.init.zeros_(technique.paint.name.weight)  # so that its bias alone speaks
    loss = technique(*technique.views(images, rng()))
    assert loss.item() == pytest.approx(technique.measures["loss_of_guessing"].item(), rel=1e-5)


def test_what_was_shown_is_remembered_over_batches(images):
    technique = colourisation.Colourisation(resnet)
    for batch in (images, 1 - images):
        technique(*technique.views(batch, rng()))
    assert technique.shown.sum() == 2 * len(images) * 4 * 4
