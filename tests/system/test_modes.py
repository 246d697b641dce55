"""A network is put back in the mode in which it was, part by part."""

import pytest
import torch
from torch import nn

from lilliput.system.modes import evaluating


def test_every_part_is_put_back_in_its_own_mode():
    net = nn.Sequential(nn.BatchNorm2d(3).eval(), nn.Dropout())
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == [True, False, True]


def test_an_error_leaves_no_other_mode_behind():
    net = nn.Sequential(nn.BatchNorm2d(3).eval(), nn.Dropout())
    with pytest.raises(ValueError), evaluating(net):
        raise ValueError
    assert [part.training for part in net.modules()] == [True, False, True]


def test_gradients_are_not_its_concern():
    with evaluating(nn.Identity()):
        assert torch.is_grad_enabled()
