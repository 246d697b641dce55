"""VGG-11 is built without its classifier; the rest is tested with the other stock networks, where that is heavy."""

import pytest
import torch

from lilliput.backbones.vgg11_bn import vgg11_bn
from tests.backbones.conftest import pictures

WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)


def test_parameters_are_those_of_eight_convolutions_and_their_norms():
    inputs = (3, *WIDTHS[:-1])
    due = sum(9 * taken * given + 3 * given for taken, given in zip(inputs, WIDTHS, strict=True))
    assert sum(value.numel() for value in vgg11_bn(width=1.0).parameters()) == due


def test_weights_are_drawn_as_the_library_draws_them():
    """He et al.'s normal by the outputs; no bias; norms that change nothing."""
    net = vgg11_bn().net
    for layer in net.features:
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.out_channels)) ** 0.5, rel=0.05)
            assert not layer.bias.any()
        elif isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.weight.eq(1).all() and not layer.bias.any()


def test_a_stage_for_each_resolution():
    backbone = vgg11_bn(width=0.25).eval()
    assert backbone.strides == (1, 2, 4, 8, 16, 32) and backbone.dims == (16, 32, 64, 128, 128, 128)
    with torch.no_grad():
        maps = backbone.stages(pictures(1, 64))
    assert [m.shape[-1] for m in maps] == [64, 32, 16, 8, 4, 2]
    assert torch.equal(maps[-1], torch.nn.functional.max_pool2d(maps[-2], 2))
