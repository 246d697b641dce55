"""Thinner layers: which channels may go, and that all which belongs to them goes with them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput import catalog
from lilliput.backbones import Backbone, keep_channels, links
from lilliput.errors import BadSetting
from tests.backbones.conftest import in_one_stage, pictures

FOUND = {  # how many convolutions may lose channels, and some of them
    "resnet18": (8, {"layer1.0.conv1": 1, "layer4.1.conv1": 1}),
    "mobilenet_v2": (19, {"features.0.0": 3, "features.2.conv.0.0": 3, "features.17.conv.0.0": 3}),
    "shufflenet_v2": (17, {"conv1.0": 3, "stage2.0.branch2.0": 3}),
    "squeezenet": (9, {"features.0": 0, "features.3.squeeze": 0}),
    "efficientnet_lite0": (18, {"conv_stem": 3, "blocks.1.0.conv_pw": 3}),
    "torchvision/alexnet": (4, {"features.0": 0, "features.8": 0}),
}


@pytest.mark.parametrize("name", FOUND)
def test_channels_may_go_along_chains_and_within_blocks(name):
    found = {link.name: link for link in links(catalog.backbone_builder(name)())}
    number, some = FOUND[name]
    assert len(found) == number
    assert {name: len(found[name].between) for name in some} == some


def test_two_convolutions_may_read_the_same_channels():
    readers = {link.name: link.readers for link in links(catalog.backbone_builder("squeezenet")())}
    assert [reader.kernel_size for reader in readers["features.3.squeeze"]] == [(1, 1), (3, 3)]


def thinned(name):
    """A network and the same with the channels of odd number silenced; and the links of a copy from which they went."""
    torch.manual_seed(1)
    backbone = catalog.backbone_builder(name, width=0.5)().eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.weight)
    thin = copy.deepcopy(backbone)
    for whole, link in zip(links(backbone), links(thin), strict=True):
        odd = torch.arange(1, link.channels, 2)
        for reader in whole.readers:
            reader.weight.data[:, odd] = 0
        link.keep(torch.arange(0, link.channels, 2))
    return backbone, thin


@pytest.mark.parametrize("name", [*catalog.BACKBONES, "timm/resnet10t"])
def test_channels_that_nothing_reads_go_and_the_features_stay(name):
    backbone, thin = thinned(name)
    images = pictures(2, 48)
    with torch.no_grad():
        torch.testing.assert_close(thin(images), backbone(images), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in thin.parameters()) < 0.9 * sum(p.numel() for p in backbone.parameters())


def test_a_network_is_built_with_the_channels_that_one_has_left():
    kept = {"layer1.0.conv1": 5, "layer3.1.conv1": 17}
    backbone = catalog.backbone_builder("resnet18", width=0.25, channels_kept=kept)()
    shapes = {name: tuple(value.shape) for name, value in backbone.net.state_dict().items()}
    assert shapes["layer1.0.conv1.weight"] == (5, 16, 3, 3) and shapes["layer1.0.bn1.running_var"] == (5,)
    assert shapes["layer1.0.conv2.weight"] == (16, 5, 3, 3) and shapes["layer3.1.conv2.weight"] == (64, 17, 3, 3)
    assert backbone(pictures(2, 32)).shape == (2, 128) == (2, backbone.dim)


def test_the_maps_of_a_stage_may_be_thinner_and_are_told_so():
    backbone = catalog.backbone_builder("mobilenet_v2", width=0.5)()
    before = backbone.dims
    keep_channels(backbone, {"features.1.conv.1": 3})
    assert backbone.dims == (3, *before[1:]) and backbone.dim == before[-1]
    assert [maps.shape[1] for maps in backbone.stages(pictures(2, 64))] == list(backbone.dims)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"conv1": 3}, "resnet18 has no convolution 'conv1' that may lose channels; those that may are layer1.0.conv1"),
        ({"layer1.0.conv1": 0}, "0 channels of layer1.0.conv1, which has 64 in resnet18"),
        ({"layer1.0.conv1": 65}, "65 channels of layer1.0.conv1"),
    ],
)
def test_channels_that_cannot_be_kept_are_named(kept, said):
    with pytest.raises(BadSetting, match=said):
        catalog.backbone_builder("resnet18", channels_kept=kept)()


class Twice(nn.Module):
    """A convolution that serves two places."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, maps):
        return self.last(F.relu(self.first(self.first(maps))))


class Mixed(nn.Module):
    """Its channels are looked at together on their way."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, maps):
        return self.last(self.first(maps).softmax(1))


@pytest.mark.parametrize("part", [Twice(), Mixed()])
def test_what_serves_elsewhere_or_is_mixed_keeps_its_channels(part):
    assert links(Backbone(nn.Sequential(part), in_one_stage)) == []


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, maps):
        return self.conv(maps) if maps.mean() > -9 else maps


def test_a_network_that_looks_at_its_numbers_is_refused():
    with pytest.raises(BadSetting, match="sequential cannot be traced"):
        links(Backbone(nn.Sequential(Deciding()), in_one_stage))
