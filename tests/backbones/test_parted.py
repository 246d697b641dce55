"""A batch in parts against the whole one: the same gradient, batch norm as of parts that are normalised apart."""

import copy

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.backbones import Backbone, split_batch_norm
from lilliput.techniques.simclr import SimCLR
from tests.conftest import rng

IMAGES = torch.rand(8, 3, 32, 32, generator=rng())


def plain(*, channels=3, width=1.0):
    """A network without batch norm."""
    net = nn.Sequential(nn.Conv2d(channels, 8, 3, 2), nn.Tanh(), nn.Conv2d(8, 16, 3, 2), nn.Tanh())
    return Backbone(net, lambda net: [list(net[:2]), list(net[2:])], channels=channels, name="plain")


def resnet(**options):
    return catalog.backbone_builder("resnet18", width=0.25)(**options)


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_close(one, two, tolerance=1e-6):
    assert one.keys() == two.keys() and one
    for name in one:
        assert torch.allclose(one[name], two[name], atol=tolerance, rtol=1e-3), name


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_without_batch_norm_a_loss_over_all_pairs_of_a_batch_has_the_gradient_of_the_whole(parts):
    """NT-Xent compares every image with every other: parts that were losses of their own would miss most pairs."""
    torch.manual_seed(0)
    whole = SimCLR(plain)
    parted = copy.deepcopy(whole)
    parted.encoder.parts = parts
    views = whole.views(IMAGES, rng(1))
    losses = [technique(*views) for technique in (whole, parted)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    assert_close(gradients(whole), gradients(parted))


@pytest.mark.parametrize("groups", [None, 6])
def test_batch_norm_sees_the_parts_apart_and_its_statistics_move_once_as_far_as_one_batch_moves_them(groups):
    torch.manual_seed(0)
    parted = resnet().train().double()
    parted.parts = 2
    apart = split_batch_norm(copy.deepcopy(parted), groups or 2)
    apart.parts = 1
    if groups:  # already split: into as many groups over both parts together
        split_batch_norm(parted, groups)
    images = torch.rand(12, 3, 32, 32, generator=rng(), dtype=torch.float64)
    for network in (parted, apart):
        network(images).pow(2).sum().backward()
    assert_close(gradients(parted), gradients(apart), 1e-9)
    statistics = [
        {name: value for name, value in network.state_dict().items() if "running" in name}
        for network in (parted, apart)
    ]
    assert_close(*statistics)
    assert all(layer.momentum == 0.1 for layer in parted.modules() if isinstance(layer, nn.BatchNorm2d))


def test_of_parts_nothing_is_kept_for_the_backward_pass_but_their_images():
    kept = {}
    for parts in (1, 4):
        network = resnet().train()
        network.parts, seen = parts, {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, seen=seen: seen.setdefault(tensor.data_ptr(), tensor), lambda tensor: tensor
        )
        with hooks:
            network(IMAGES)
        weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
        kept[parts] = sum(t.nbytes for t in seen.values() if t.untyped_storage().data_ptr() not in weights)
    assert IMAGES.nbytes <= kept[4] < IMAGES.nbytes + 0.2 * kept[1]


def test_judging_takes_no_parts():
    network = resnet().eval()
    whole = network(IMAGES)
    network.parts = 4
    assert torch.equal(network(IMAGES), whole)
