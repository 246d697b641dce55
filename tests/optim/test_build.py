"""Which parameters are decayed and how fast they learn; LAMB against its paper's algorithm written plainly."""

import pytest
import torch
from torch import nn

from lilliput.optim.build import make_optimiser, set_rate
from tests.optim.conftest import recipe


def test_biases_and_norms_are_not_decayed():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for name in ("sgd", "lars", "adamw", "lamb"):
        optimiser = make_optimiser(recipe(optimiser=name), module)
        decayed = {id(p): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
        assert [decayed[id(p)] for p in module.parameters()] == [0.1, 0.0, 0.0, 0.0]


def test_biases_and_norms_are_decayed_where_the_recipe_says_so():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimiser = make_optimiser(recipe(decay_vectors=True), module)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.1]


def test_biases_norms_and_named_parts_learn_at_their_own_share_of_the_rate():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimiser = make_optimiser(recipe(vector_rate=0.1, rates={"2": 10.0}), module)
    assert len([p for g in optimiser.param_groups for p in g["params"]]) == 6
    set_rate(optimiser, 0.5)
    rates = {id(p): g["lr"] for g in optimiser.param_groups for p in g["params"]}
    assert [rates[id(p)] for p in module.parameters()] == pytest.approx([0.5, 0.05, 0.05, 0.05, 5.0, 0.5])
    plain = make_optimiser(recipe(), module)
    assert [group["lr"] for group in plain.param_groups] == [recipe().peak_rate] * 2  # biases and norms too


def test_lamb_moves_weights_by_their_own_size_and_biases_as_adam_does():
    """Algorithm 2: m and v as Adam's, corrected; r = m / (sqrt(v) + eps) + decay w; w <- w - rate |w| / |r| r."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 4)
    r = recipe(optimiser="lamb", lr=0.02, lr_per_256=False, vector_rate=0.5, beta2=0.95)
    optimiser = make_optimiser(r, layer)
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    m, v = [torch.zeros_like(w), torch.zeros_like(b)], [torch.zeros_like(w), torch.zeros_like(b)]
    for step in range(1, 5):
        layer.weight.grad, layer.bias.grad = torch.randn(4, 3), torch.randn(4)
        ratios = []
        for i, gradient in enumerate((layer.weight.grad, layer.bias.grad)):
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.95 * v[i] + 0.05 * gradient**2
            ratios.append((m[i] / (1 - 0.9**step)) / ((v[i] / (1 - 0.95**step)).sqrt() + 1e-6))
        ratios[0] = ratios[0] + 0.1 * w
        w = w - 0.02 * w.norm() / ratios[0].norm() * ratios[0]
        b = b - 0.01 * ratios[1]
        optimiser.step()
        assert torch.allclose(layer.weight, w, atol=1e-6) and torch.allclose(layer.bias, b, atol=1e-6)
