"""Schedules worked by hand; LARS against its paper's algorithm written plainly."""

import math

import pytest
import torch
from torch import nn

from lilliput.errors import BadSetting
from lilliput.optim.build import make_optimiser, set_rate
from lilliput.optim.lars import LARS
from lilliput.optim.recipe import Recipe

BARE_AND_NORMED = nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def recipe(**changes):
    return Recipe(**{"optimiser": "sgd", "lr": 0.4, "batch": 128, "epochs": 10, "weight_decay": 0.1, **changes})


def test_the_rate_grows_with_the_batch_where_it_is_given_per_256_images():
    assert recipe().peak_rate == 0.2
    assert recipe(lr_per_256=False).peak_rate == 0.4


def test_a_cosine_starts_at_the_peak_is_half_in_the_middle_and_ends_at_zero():
    r = recipe()
    assert r.rate(0.0) == pytest.approx(0.2)
    assert r.rate(0.5) == pytest.approx(0.1)
    assert r.rate(1.0) == pytest.approx(0.0)
    assert r.rate(1 / 3) == pytest.approx(0.2 * 0.75)  # (1 + cos 60 deg) / 2


def test_a_warm_up_is_linear_and_the_cosine_begins_where_it_ends():
    r = recipe(warmup=0.1)
    assert r.rate(0.05) == pytest.approx(0.1)
    assert r.rate(0.1) == pytest.approx(0.2)
    assert r.rate(0.55) == pytest.approx(0.1)
    assert r.rate(1.0) == pytest.approx(0.0)


def test_steps_fall_to_a_fifth_at_30_60_and_80_percent():
    r = recipe(schedule="steps")
    rates = [r.rate(p) for p in (0.0, 0.29, 0.3, 0.59, 0.6, 0.79, 0.8, 0.99)]
    assert rates == pytest.approx([0.2, 0.2, 0.04, 0.04, 0.008, 0.008, 0.0016, 0.0016])


def test_unusable_settings_are_refused_by_name():
    for wrong in (
        {"optimiser": "adm"},
        {"schedule": "cosin"},
        {"batch": 1},
        {"epochs": 0},
        {"warmup": 1.0},
        {"lr": -1},
        {"vector_rate": -1},
        {"lr": float("nan")},
    ):
        with pytest.raises(BadSetting, match=next(iter(wrong))):
            recipe(**wrong)


def test_biases_and_norms_are_not_decayed():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for name in ("sgd", "lars", "adamw", "lamb"):
        optimiser = make_optimiser(recipe(optimiser=name), module)
        decayed = {id(p): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
        assert [decayed[id(p)] for p in module.parameters()] == [0.1, 0.0, 0.0, 0.0]


def test_biases_norms_and_named_parts_learn_at_their_own_share_of_the_rate():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimiser = make_optimiser(recipe(vector_rate=0.1, rates={"2": 10.0}), module)
    assert len([p for g in optimiser.param_groups for p in g["params"]]) == 6
    set_rate(optimiser, 0.5)
    rates = {id(p): g["lr"] for g in optimiser.param_groups for p in g["params"]}
    assert [rates[id(p)] for p in module.parameters()] == pytest.approx([0.5, 0.05, 0.05, 0.05, 5.0, 0.5])


def test_a_network_without_normalisation_has_settings_of_its_own_unless_they_are_given():
    bare, normed = BARE_AND_NORMED
    r = recipe(bare={"optimiser": "lamb", "lr": 0.02})
    assert (r.suited(normed).optimiser, r.suited(normed).lr) == ("sgd", 0.4)
    assert (r.suited(bare).optimiser, r.suited(bare).lr, r.suited(bare).weight_decay) == ("lamb", 0.02, 0.1)
    given = r.override(lr=0.3, epochs=None)
    assert (given.suited(normed).lr, given.suited(bare).lr, given.suited(bare).optimiser) == (0.3, 0.3, "lamb")
    assert r.override(optimiser="adamw").suited(bare) == r.override(optimiser="adamw").suited(normed)


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
