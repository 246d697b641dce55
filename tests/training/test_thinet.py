"""ThiNet against what its equations say: the greedy choice by brute force, least squares by torch's own solver."""

import copy
import itertools

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.backbones import Backbone, links
from lilliput.training.thinet import added, least_missed, products, rescaling, thin
from tests.conftest import CPU, rng


def rows(count=60, channels=7, seed=0):
    return torch.randn(count, channels, generator=rng(seed), dtype=torch.float64) + 0.3


def missed(x, dropped):
    """Equation 6."""
    return x[:, list(dropped)].sum(1).square().sum().item()


def test_channels_are_dropped_one_by_one_so_that_the_sum_of_the_dropped_stays_least():
    for seed in range(5):
        x = rows(seed=seed)
        dropped = []
        for count in range(6, 0, -1):
            rest = [channel for channel in range(7) if channel not in dropped]
            dropped.append(min(rest, key=lambda channel: missed(x, [*dropped, channel])))
            assert least_missed(x.T @ x, count).tolist() == sorted(set(range(7)) - set(dropped))


def test_the_first_channel_dropped_is_the_best_of_all():
    x = rows()
    best = min(itertools.combinations(range(7), 1), key=lambda dropped: missed(x, dropped))
    assert set(range(7)) - set(least_missed(x.T @ x, 6).tolist()) == set(best)


def test_channels_that_cancel_each_other_go_together():
    """Alone, each would be missed more than any other that stays."""
    x = rows()
    x[:, 2] = 0.5 * x[:, 2]
    x[:, 5] = -x[:, 2]
    assert least_missed(x.T @ x, 5).tolist() == [0, 1, 3, 4, 6]


def test_kept_channels_are_scaled_by_ordinary_least_squares():
    x, kept = rows(), torch.tensor([0, 2, 3, 6])
    due = torch.linalg.lstsq(x[:, kept], x.sum(1, keepdim=True)).solution.flatten()
    torch.testing.assert_close(rescaling(x.T @ x, kept), due)


def test_a_kept_channel_that_never_added_anything_keeps_its_scale():
    x, kept = rows(), torch.tensor([0, 2, 3])
    x[:, 2] = 0
    scales = rescaling(x.T @ x, kept)
    assert scales[1] == 1
    due = torch.linalg.lstsq(x[:, [0, 3]], x.sum(1, keepdim=True)).solution.flatten()
    torch.testing.assert_close(scales[[0, 2]], due)


@pytest.mark.parametrize(
    "options", [{}, {"padding": (2, 1)}, {"stride": (2, 1), "padding": 1}, {"dilation": 2, "padding": 2}]
)
def test_what_the_channels_add_is_the_output_less_its_bias(options):
    """Each row's sum is a number of that image's output, of whatever filter and place; of each image many were met."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 3, (3, 2), **options)
    maps = torch.randn(2, 4, 6, 7)
    sums = added(conv, maps, 400, rng()).sum(1).reshape(2, 400)
    output = (conv(maps) - conv.bias[:, None, None]).flatten(1)
    distances = (sums[:, :, None] - output[:, None, :]).abs()
    assert distances.amin(2).max() < 1e-5
    met = [len(set(own.argmin(1).tolist())) for own in distances]
    assert min(met) > 0.8 * output.shape[1]


def chain(*channels, norm=True):
    """Convolutions one after another, with batch norm and ReLU, of the numbers of channels that are given."""
    layers = []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *([nn.BatchNorm2d(outputs)] * norm), nn.ReLU()]
    return Backbone(nn.Sequential(*layers), lambda net: [list(net)])


@pytest.fixture
def photos(scenes):
    return scenes.pool


def features(backbone, images):
    with torch.no_grad():
        return backbone.eval()(images.load(slice(0, 8), "cpu"))


def test_dead_channels_are_the_ones_that_go_and_nothing_else_changes(photos):
    torch.manual_seed(0)
    backbone = chain(3, 8, 6, 5)
    dead = {0: [1, 3, 4, 6], 3: [0, 2, 5]}
    for layer, channels in dead.items():
        norm = backbone.net[layer + 1]
        norm.weight.data[channels] = 0
        norm.bias.data[channels] = -1.0  # ReLU gives nothing
    whole = copy.deepcopy(backbone)
    assert thin(backbone, photos, 0.5, plan=CPU, seed=0) == {"0": 4, "3": 3}
    for layer, channels in dead.items():
        alive = [channel for channel in range(len(whole.net[layer].weight)) if channel not in channels]
        assert torch.equal(backbone.net[layer].bias, whole.net[layer].bias[alive])
    torch.testing.assert_close(features(backbone, photos), features(whole, photos), rtol=1e-4, atol=1e-6)


def test_of_twins_one_goes_and_the_other_stands_for_both(photos):
    """They must be faint: which channels go is decided before any scale is."""
    torch.manual_seed(0)
    backbone = chain(3, 6, 4)
    first, norm, _, second, *_ = backbone.net
    for values in (first.weight, first.bias, norm.weight, norm.bias):
        values.data[4] = values.data[1]
    second.weight.data[:, [1, 4]] = 0.01 * second.weight.data[:, [1, 1]]
    whole = copy.deepcopy(backbone)
    assert thin(backbone, photos, 5 / 6, plan=CPU, seed=0) == {"0": 5}
    torch.testing.assert_close(features(backbone, photos), features(whole, photos), rtol=1e-4, atol=1e-6)
    twin = backbone.net[3].weight[:, 3] / whole.net[3].weight[:, 4]  # the first of both is the one that goes
    torch.testing.assert_close(twin, torch.full_like(twin, 2.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet"])
def test_what_keeps_all_channels_keeps_all_bits(name, photos):
    backbone = catalog.backbone_builder(name, width=0.25)()
    before = copy.deepcopy(backbone.state_dict())
    assert thin(backbone, photos, 1.0, plan=CPU, seed=0) == {}
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet"])
def test_scales_bring_the_next_layer_nearer_to_what_it_was_than_none_would(name, photos):
    torch.manual_seed(0)
    backbone = catalog.backbone_builder(name, width=0.25)()
    backbone.train()(photos.load(slice(0, 32), "cpu"))
    backbone.eval()
    link = links(backbone)[0]
    sums = products(backbone, link, photos, CPU, 0)
    kept = least_missed(sums, link.channels // 2)
    scales = rescaling(sums, kept)
    weighted = torch.ones(link.channels, dtype=torch.float64)
    weighted[[channel for channel in range(link.channels) if channel not in kept]] = 0
    plain = 1 - weighted
    weighted[kept] = scales
    left = 1 - weighted
    assert left @ sums @ left <= plain @ sums @ plain


def test_the_same_seed_drops_the_same_channels(photos):
    torch.manual_seed(0)
    backbone = chain(3, 8, 8, 4)
    twins = [copy.deepcopy(backbone) for _ in range(3)]
    for twin, seed in zip(twins, (0, 0, 1), strict=True):
        thin(twin, photos, 0.5, plan=CPU, seed=seed)
    one, two, other = (twin.state_dict() for twin in twins)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_it_drops_by_what_the_next_layer_misses_and_not_by_the_filters_size(photos):
    """Large filters that nobody listens to go before small ones that matter."""
    torch.manual_seed(0)
    backbone = chain(3, 4, 5, norm=False)
    first, _, second, _ = backbone.net
    first.weight.data[[0, 2]] *= 5
    second.weight.data[:, [0, 2]] *= 1e-3
    small = first.weight.data[[1, 3]].clone()
    thin(backbone, photos, 0.5, plan=CPU, seed=0)
    assert torch.equal(backbone.net[0].weight, small)
