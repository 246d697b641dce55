"""Muon against its article's steps written plainly, and against SGD where it is that."""

import pytest
import torch
from torch import nn

from lilliput.optim.build import make_optimiser
from lilliput.optim.muon import Muon, orthogonal
from lilliput.optim.recipe import Recipe
from lilliput.training.loop import Learner, train
from tests.conftest import CPU, rng


def plainly(matrix, steps):
    """Newton and Schulz, as the article writes them."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / matrix.norm()
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(6, 6), (6, 20), (20, 6)])
@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_all_steps_at_once_are_those_one_after_another(shape, steps):
    matrices = torch.randn(3, *shape, generator=rng(), dtype=torch.float64)
    for made, matrix in zip(orthogonal(matrices, steps), matrices, strict=True):
        torch.testing.assert_close(made, plainly(matrix, steps) if shape[0] <= shape[1] else plainly(matrix.T, steps).T)


def test_five_steps_bring_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, 32, 64, generator=rng()), 5))
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_step_is_along_the_orthogonal_matrix_near_nesterovs_momentum_and_a_share_of_the_weights_long():
    """Convolutions as matrices; weights shrink by rate times decay."""
    weights = [
        nn.Parameter(torch.randn(8, 3, 3, 3, generator=rng(1))),
        nn.Parameter(torch.randn(9, 4, generator=rng(2)) * 7),
    ]
    expected = [w.detach().clone() for w in weights]
    optimiser = Muon([{"params": weights, "weight_decay": 0.1}], lr=0.05, momentum=0.6, steps=3)
    velocities = [torch.zeros_like(w) for w in expected]
    for step in range(3):
        for place, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=rng(10 * step + place))
            velocities[place] = 0.6 * velocities[place] + weight.grad
            update = (weight.grad + 0.6 * velocities[place]).flatten(1)
            made = plainly(update, 3) if place == 0 else plainly(update.T, 3).T
            made = made.view_as(weight) * expected[place].norm() / made.norm()
            expected[place] = expected[place] * (1 - 0.05 * 0.1) - 0.05 * made
        optimiser.step()
    for weight, wanted in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), wanted)


def test_weights_of_nothing_but_zeros_learn_too():
    weight = nn.Parameter(torch.zeros(3, 4))
    weight.grad = torch.randn(3, 4, generator=rng())
    Muon([weight], lr=0.1).step()
    assert weight.detach().norm().item() == pytest.approx(0.1, rel=1e-4)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.depthwise = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.measures = {}

    def views(self, images, generator):
        return (images,)

    def forward(self, images):
        return self.head(self.norm(self.depthwise(self.dense(images))).flatten(1)).square().mean()

    def after_step(self, progress):
        pass


def test_in_a_recipe_all_but_dense_convolutions_is_stepped_as_by_sgd():
    recipe = Recipe("muon", lr=0.05, lr_per_256=False, batch=8, epochs=1, weight_decay=0.1, muon_momentum=0.6)
    ours, plain = Small(), Small()
    plain.load_state_dict(ours.state_dict())
    muon, sgd = make_optimiser(recipe, ours), make_optimiser(recipe.replace(optimiser="sgd"), plain)
    for step in range(3):
        for p, copy in zip(ours.parameters(), plain.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=rng(step))
            copy.grad = p.grad.clone()
        muon.step()
        sgd.step()
    for (name, p), copy in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, copy) == (name != "dense.weight"), name


def test_a_network_of_one_shape_many_times_is_stepped_as_each_alone():
    layers = [nn.Parameter(torch.randn(4, 6, generator=rng(number))) for number in range(3)]
    alone = [nn.Parameter(layer.detach().clone()) for layer in layers]
    for layer, copy in zip(layers, alone, strict=True):
        layer.grad = torch.randn(4, 6, generator=rng(9))
        copy.grad = layer.grad * 3  # of its direction alone
    Muon(layers, lr=0.1).step()
    for layer, copy in zip(layers, alone, strict=True):
        Muon([copy], lr=0.1).step()
        torch.testing.assert_close(layer, copy)


def test_what_muon_steps_has_its_share_of_the_rate():
    recipe = Recipe("muon", lr=0.06, lr_per_256=False, batch=8, epochs=1, weight_decay=0.0, muon_rate=0.5)
    optimiser = make_optimiser(recipe, Small())
    assert {(group["adapt"], group["lr"]) for group in optimiser.param_groups} == {(False, 0.06), (True, 0.03)}


@pytest.mark.parametrize(("steps", "share"), [(1, 0.5), (100, 0.5), (400, 0.25), (10_000, 0.05)])
def test_the_share_falls_by_the_root_of_how_much_longer_than_so_many_steps_training_is(steps, share):
    recipe = Recipe("muon", lr=0.06, lr_per_256=False, batch=8, epochs=1, weight_decay=0.0, muon_rate=0.5)
    assert recipe.muon_share(steps) == 0.5
    assert recipe.replace(muon_steps=100).muon_share(steps) == pytest.approx(share)


def test_training_steps_by_the_share_of_its_own_length():
    settings = {"lr_per_256": False, "batch": 2, "epochs": 4, "weight_decay": 0.0, "schedule": "constant"}
    recipe = Recipe("muon", 0.1, **settings, muon_steps=2)
    learner = Learner(Small(), recipe, CPU)
    batches = lambda number, generator, first: iter([torch.rand(2, 3, 5, 5)] * 2)  # noqa: E731
    rates = []
    for _ in train(learner, batches, 2, seed=0):
        rates.append({bool(group.get("muon")): group["lr"] for group in learner.optimiser.param_groups})
    assert rates == [{False: 0.1, True: pytest.approx(0.05)}] * 4  # 8 steps, four times as many as 2
