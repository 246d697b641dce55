"""Batch norm over groups of a batch."""

import copy

import pytest
import timm
import torch
from torch import nn

from lilliput.backbones import join_batch_norm, split_batch_norm
from lilliput.errors import BadSetting
from lilliput.system import distributed
from tests.conftest import rng


def test_split_batch_norm_normalises_every_part_of_the_batch_apart():
    layer = split_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), groups=4)
    plain = nn.BatchNorm2d(3)
    batch = torch.randn(8, 3, 5, 5, generator=rng())
    expected = torch.cat([plain(part) for part in batch.split(2)])
    assert torch.allclose(layer(batch), expected, atol=1e-6)
    assert layer[0].momentum == 0.1
    assert set(layer.state_dict()) == {f"0.{key}" for key in plain.state_dict()}
    layer[0].running_mean.copy_(plain.running_mean), layer[0].running_var.copy_(plain.running_var)
    assert torch.allclose(layer.eval()(batch), plain.eval()(batch), atol=1e-6)


def test_split_batch_norm_moves_its_running_statistics_as_far_as_one_batch_would():
    """They once moved as far for every part, so that an encoder was judged by the mean of its last few parts."""
    layer, plain = split_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), groups=8)[0], nn.BatchNorm2d(3)
    batch = torch.ones(16, 3, 4, 4)
    for _ in range(3):
        layer(batch), plain(batch)
    assert torch.allclose(layer.running_mean, plain.running_mean, atol=1e-6)


def test_a_batch_that_does_not_go_into_its_groups_is_for_one_process_alone():
    """Two processes once normalised 5, 5, 4, 4 images each of 36 in 8 groups, where one has 5, 5, 5, 5, 4, 4, 4, 4."""
    layer = split_batch_norm(nn.BatchNorm2d(3), groups=8)
    with distributed.among(0, 2), pytest.raises(BadSetting, match=r"36 does not go evenly into 8 .* use --batch 32"):
        join_batch_norm(layer, 36)
    with distributed.among(0, 2):
        join_batch_norm(layer, 32)
    join_batch_norm(layer, 36)


def test_splitting_batch_norm_keeps_an_activation_fused_into_it():
    fused = timm.layers.BatchNormAct2d(4)
    batch = torch.randn(8, 4, 3, 3, generator=rng())
    expected = torch.cat([copy.deepcopy(fused)(part) for part in batch.split(4)])
    split = copy.deepcopy(split_batch_norm(nn.Sequential(fused), groups=2))
    assert torch.allclose(split(batch), expected, atol=1e-6)
    assert split(batch).min() >= 0
