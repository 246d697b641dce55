"""Convolutions over maps of one place against torch's own."""

import copy

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.backbones._one_place import OnePlaceConv2d, quicken_one_place
from tests.conftest import rng


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, (1, 5)])
@pytest.mark.parametrize("stride", [1, 2])
def test_values_and_gradients_equal_those_of_the_plain_convolution(kernel, stride, bias):
    torch.manual_seed(0)
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    plain = nn.Conv2d(6, 4, sides, stride, tuple(side // 2 for side in sides), bias=bias)
    net = nn.Sequential(copy.deepcopy(plain))
    quicken_one_place(net)
    assert type(net[0]) is OnePlaceConv2d
    for side in (1, 3):
        for layer in (plain, net[0]):
            layer.zero_grad()
        maps = torch.randn(5, 6, side, side, generator=rng())
        ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
        one, two = net(ours), plain(theirs)
        torch.testing.assert_close(one, two)
        weight = torch.randn(two.shape, generator=rng(1))
        (one * weight).sum().backward()
        (two * weight).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
        for a, b in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3),  # without padding it has no output
        nn.Conv2d(4, 4, 2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
    ],
)
def test_other_convolutions_stay_as_they_are(layer):
    net = nn.Sequential(layer)
    quicken_one_place(net)
    assert type(net[0]) is nn.Conv2d


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_network_gives_the_same_features_at_a_size_of_one_place(name):
    backbone = catalog.backbone_builder(name)().eval()
    images = torch.rand(2, 3, 32, 32, generator=rng())
    ours = backbone(images)
    quick = [layer for layer in backbone.modules() if type(layer) is OnePlaceConv2d]
    assert quick and backbone.maps(images).shape[2:] == (1, 1)
    for layer in quick:
        layer.__class__ = nn.Conv2d
    torch.testing.assert_close(ours, backbone(images), rtol=1e-4, atol=1e-5)
