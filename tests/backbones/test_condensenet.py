"""Learned group convolutions: which inputs go and when, and that the condensed network is the masked one."""

import copy

import pytest
import torch
from torch import nn

from lilliput import api, catalog
from lilliput.backbones import at_the_end, condensed, condenses
from lilliput.backbones.condensenet import GROUPS, LearnedGroupConv, condensenet, stages_due
from lilliput.system import cost
from lilliput.system.records import read_json
from lilliput.training import run as training_run
from lilliput.training.encoders import load_encoder
from tests.backbones.conftest import pictures
from tests.conftest import SMALL, interrupt_at, saved_bits


def learned(network):
    return [layer for layer in network.modules() if isinstance(layer, LearnedGroupConv)]


def step(network, progress):
    for layer in learned(network):
        layer.after_step(progress)


def test_the_condensing_stages_share_the_first_half_of_training():
    assert [stages_due(progress, 4) for progress in (0, 0.16, 0.17, 0.33, 0.34, 0.49, 0.5, 0.99)] == [
        *(0, 0, 1, 1, 2, 2, 3, 3)
    ]
    assert [stages_due(progress, 1) for progress in (0, 0.5, 1)] == [0, 0, 0]


@pytest.mark.parametrize("condensation", [2, 4, 8])
def test_each_stage_takes_an_equal_share_and_the_last_leaves_one_of_c(condensation):
    backbone = condensenet(width=0.5, condensation=condensation)
    layers = learned(backbone)
    assert len(layers) == 18 and all(layer.mask.all() for layer in layers)
    for stage in range(condensation):
        step(backbone, stage / (2 * (condensation - 1)) + 1e-9)
        for layer in layers:
            assert layer.in_channels % condensation == 0
            left = layer.in_channels * (condensation - stage) // condensation
            assert layer.mask.sum(1).tolist() == [left] * GROUPS


def test_the_inputs_of_the_least_absolute_weights_go_and_each_group_has_its_own():
    layer = LearnedGroupConv(8, 8, 4)
    layer.after_step(0.2)
    for group in range(GROUPS):
        filters = layer.weight.detach()[2 * group : 2 * group + 2, :, 0, 0]
        weighs = [sum(abs(float(own[number])) for own in filters) for number in range(8)]
        gone = sorted(range(8), key=weighs.__getitem__)[:2]
        assert (~layer.mask[group]).nonzero().flatten().tolist() == sorted(gone)
    assert len({tuple(own.tolist()) for own in layer.mask}) > 1


def test_what_is_gone_stays_gone_whatever_its_weights_become():
    layer = LearnedGroupConv(8, 8, 4)
    layer.after_step(0.2)
    before = layer.mask.clone()
    layer.weight.data[:] = torch.where(before.repeat_interleave(2, 0)[..., None, None], layer.weight, 99.0)
    layer.after_step(0.4)
    assert not (layer.mask & ~before).any() and layer.mask.sum(1).tolist() == [4] * GROUPS


def test_weights_that_are_condensed_already_are_not_grown_again():
    """A training that begins with them, or a network that teaches, counts its stages from none."""
    trained, fresh = LearnedGroupConv(8, 8, 4), LearnedGroupConv(8, 8, 4)
    trained.after_step(1.0)
    fresh.load_state_dict(trained.state_dict())
    for progress in (0.0, 0.2, 0.4, 1.0):
        fresh.after_step(progress)
        assert torch.equal(fresh.mask, trained.mask)


def test_all_filters_of_a_group_read_the_same_inputs_and_no_others():
    layer = LearnedGroupConv(16, 24, 4)
    layer.after_step(1.0)
    maps = torch.randn(1, 16, 1, 1, requires_grad=True)
    for number, value in enumerate(layer(maps).flatten()):
        (reads,) = torch.autograd.grad(value, maps, retain_graph=True)
        assert torch.equal(reads.flatten() != 0, layer.mask[number // 6])


@pytest.mark.parametrize("progress", [0.0, 0.2, 1.0])
def test_the_condensed_network_gives_what_the_masked_one_does(progress):
    backbone = catalog.backbone_builder("condensenet", width=0.5)().eval()
    step(backbone, progress)
    small, images = condensed(backbone), pictures(2, 48)
    assert not condenses(small) and condenses(backbone) and not small.training
    with torch.no_grad():
        for due, maps in zip(backbone.stages(images), small.stages(images), strict=True):
            torch.testing.assert_close(maps, due, rtol=1e-4, atol=1e-5)


def test_at_the_end_learned_convolutions_have_a_quarter_of_their_weights():
    backbone = condensenet()
    saved = sum(layer.weight.numel() for layer in learned(backbone)) * 3 // 4
    small = at_the_end(backbone)
    assert cost.parameters(small) == cost.parameters(backbone) - saved == 174_416
    assert cost.multiply_adds(small, 64) < 0.5 * cost.multiply_adds(backbone, 64)
    assert all(layer.mask.all() for layer in learned(backbone))  # the network itself goes on as it was


def test_layers_read_all_that_is_before_them():
    backbone = condensenet()
    assert backbone.dims == (16, 48, 144, 400) and backbone.strides == (2, 2, 4, 8)
    assert [layer.in_channels for layer in learned(backbone)] == [
        *range(16, 48, 8),
        *range(48, 144, 16),
        *range(144, 400, 32),
    ]


def test_channels_are_mixed_so_that_every_group_of_the_second_convolution_hears_every_group_of_the_first():
    layer = copy.deepcopy(condensenet().net.block1[0]).eval()
    layer.conv1 = nn.Identity()  # gives its 16 inputs as the 4 groups of 4
    layer.norm2, layer.conv2 = nn.Identity(), nn.Identity()
    maps = torch.arange(16.0)[None, :, None, None]
    mixed = layer(maps)[0, 16:, 0, 0].round().long()
    assert [sorted(set((part // 4).tolist())) for part in mixed.split(4)] == [[0, 1, 2, 3]] * 4


def test_masks_survive_an_interrupted_run_to_the_bit(scenes, tmp_path, monkeypatch):
    options = {**SMALL, "epochs": 4, "width": 0.5}
    whole = api.pretrain("byol", "condensenet", scenes, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, training_run, "save_state", 3)
        with pytest.raises(KeyboardInterrupt):
            api.pretrain("byol", "condensenet", scenes, tmp_path / "again", **options)
    again = api.pretrain("byol", "condensenet", scenes, tmp_path / "again", **options)
    bits = [{name: kept for name, kept in saved_bits(run).items() if "encoder" in name} for run in (whole, again)]
    assert bits[0] == bits[1] and "block1.0.conv1.mask" in bits[0]["encoder_004.safetensors"]
    assert all(4 * layer.mask.sum() == GROUPS * layer.in_channels for layer in learned(load_encoder(again)))
    told = read_json(again / "run.json")
    assert told["condensed"]["parameters"] == cost.parameters(condensed(load_encoder(again))) < told["parameters"]
    assert f"condensed, {told['condensed']['parameters']:,} parameters" in training_run.summary(again)
