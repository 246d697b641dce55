"""LARS against its paper's algorithm written plainly."""

import math

import torch
from torch import nn

from lilliput.optim.lars import LARS


def test_lars_follows_its_algorithm():
    """Algorithm 1: local rate = eta |w| / (|g + b w|); v <- m v + rate * local * (g + b w); w <- w - v."""
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))
    w, b = weight.detach().clone(), bias.detach().clone()
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0, "adapt": False}]
    optimiser = LARS(groups, lr=0.5, momentum=0.9, trust=0.02)
    velocity_w, velocity_b = torch.zeros_like(w), torch.zeros_like(b)
    for step in range(4):
        rate = 0.5 * math.cos(step / 4)
        for group in optimiser.param_groups:
            group["lr"] = rate
        weight.grad, bias.grad = torch.randn(4, 3), torch.randn(4)
        gradient = weight.grad + 0.1 * w
        local = 0.02 * w.norm() / gradient.norm()
        velocity_w = 0.9 * velocity_w + rate * local * gradient
        velocity_b = 0.9 * velocity_b + rate * bias.grad
        w, b = w - velocity_w, b - velocity_b
        optimiser.step()
        assert torch.allclose(weight, w, atol=1e-6) and torch.allclose(bias, b, atol=1e-6)


def test_lars_steps_a_layer_of_zeros_by_its_plain_gradient():
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.1).step()
    assert torch.allclose(weight, torch.full((2, 2), -0.1))
