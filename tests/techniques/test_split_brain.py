"""Split-Brain against its paper's formulas written plainly, or cases worked by hand."""

import pytest
import torch
import torch.nn.functional as F

from lilliput import catalog
from lilliput.images import colour
from lilliput.techniques import split_brain
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_each_half_sees_its_own_channels_and_has_half_the_width():
    halves = split_brain.Halves(catalog.backbone_builder("resnet18"))
    assert (halves.lightness.channels, halves.colour.channels) == (1, 2)
    assert (halves.lightness.dim, halves.colour.dim, halves.dim) == (256, 256, 512)


def test_the_lightness_half_is_blind_to_colour_and_the_colour_half_to_grey_levels():
    halves = split_brain.Halves(resnet).eval()
    dim = halves.lightness.dim
    greys = torch.rand(1, 1, 32, 32, generator=rng()).expand(1, 3, 32, 32)
    features = halves(torch.cat([greys, greys * 0.5]))
    assert not torch.allclose(features[0, :dim], features[1, :dim], atol=1e-4)
    assert torch.allclose(features[0, dim:], features[1, dim:], atol=1e-3)


def test_a_backbone_sees_25_lab_steps_as_one_unit_of_its_input():
    lab = torch.tensor([50.0 + 25, 2 * 25, -25]).view(1, 3, 1, 1)
    halves = split_brain.Halves(resnet)
    pairs = zip(split_brain.split_lab(lab), (halves.lightness, halves.colour), strict=True)
    lightness, ab = ((half - backbone.mean) / backbone.std for half, backbone in pairs)
    assert lightness.item() == pytest.approx(1) and ab.flatten().tolist() == pytest.approx([2, -1])


def test_the_loss_of_guessing_is_that_of_naming_both_by_how_common_they_are(images):
    technique = split_brain.SplitBrain(resnet)
    for painter in (technique.paint_colour, technique.paint_lightness):
        torch.nn.init.zeros_(painter.name.weight)  # so that the biases alone speak
    loss = technique(*technique.views(images, rng()))
    assert loss.item() == pytest.approx(technique.measures["loss_of_guessing"].item(), rel=1e-5)


def test_what_is_painted_is_one_of_313_colours_and_50_lightnesses_in_each_cell_of_8_pixels(images):
    technique = split_brain.SplitBrain(resnet)
    for size, cells in ((32, 4), (64, 8), (96, 12), (48, 6)):
        lab = colour.rgb_to_lab(torch.rand(2, 3, size, size, generator=rng()))
        lightness, ab = split_brain.split_lab(lab)
        painted = technique.paint_colour(technique.encoder.lightness.maps(lightness), (cells, cells))
        assert painted.shape == (2, 313, cells, cells)
        painted = technique.paint_lightness(technique.encoder.colour.maps(ab), (cells, cells))
        assert painted.shape == (2, 50, cells, cells)
        assert F.avg_pool2d(lab, split_brain.CELL, ceil_mode=True).shape[-1] == cells


def test_a_network_that_sits_on_grey_tells_what_the_majority_tells(images):
    technique = split_brain.SplitBrain(resnet)
    bins = colour.colour_bins(colour.rgb_to_lab(images)[:, 1:])
    common = bins.flatten().mode().values
    painter = technique.paint_colour
    painter.start(torch.bincount(bins.flatten(), minlength=313))
    torch.nn.init.zeros_(painter.name.weight)  # so that its bias alone speaks
    technique._score("colour", painter, torch.zeros(len(images), painter.spread.in_channels, 1, 1), bins)
    assert technique.measures["colour_told"] == technique.measures["colour_told_by_majority"]
    assert technique.measures["colour_told"] == (bins == common).float().mean()


def test_painters_start_from_how_common_each_bin_is_and_only_once(images):
    technique = split_brain.SplitBrain(resnet)
    technique(*technique.views(images, rng()))
    painter = technique.paint_lightness
    share = painter.name.bias.exp()
    assert painter.started and share.sum().item() == pytest.approx(1, abs=1e-5) and share.max() > 2 / 50
    before = painter.name.bias.clone()
    technique(*technique.views(1 - images, rng()))
    assert torch.equal(painter.name.bias, before)


@pytest.mark.parametrize("stem", ["stock", "half"])
def test_the_halves_channels_are_joined_and_their_strides_are_one(stem):
    halves = split_brain.Halves(catalog.backbone_builder("resnet18", width=0.25, stem=stem)).eval()
    maps = halves.stages(torch.rand(2, 3, 64, 64, generator=rng()))
    assert halves.dims == (16, 16, 32, 64, 128) == tuple(m.shape[1] for m in maps)
    assert halves.strides == tuple(64 // m.shape[-1] for m in maps)
    assert (halves.dim, halves.stride) == (halves.dims[-1], halves.strides[-1])
