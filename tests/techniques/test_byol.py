"""BYOL against its paper's formulas written plainly, or cases worked by hand."""

import copy

import pytest
import torch

from lilliput.techniques import byol
from lilliput.training.cell import make_cell
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_the_regression_is_the_squared_distance_of_unit_vectors():
    p, t = torch.randn(6, 5, generator=rng(1)), torch.randn(6, 5, generator=rng(2))
    plainly = ((p / p.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)) ** 2).sum(1).mean()
    assert byol.regression(p, t).item() == pytest.approx(plainly.item(), rel=1e-5)
    assert byol.regression(p, 3 * p).item() == pytest.approx(0.0, abs=1e-6)
    assert byol.regression(p, -p).item() == pytest.approx(4.0, rel=1e-6)


def test_the_loss_is_symmetric_and_only_the_online_network_learns(images):
    torch.manual_seed(0)
    technique = byol.BYOL(resnet, hidden=32, output=16).eval()
    one, two = technique.views(images, rng())
    loss = technique(one, two)
    assert torch.allclose(loss, technique(two, one), atol=1e-6)
    plainly = byol.regression(technique._predict(one), technique.target(two)) + byol.regression(
        technique._predict(two), technique.target(one)
    )
    assert torch.allclose(loss, plainly, atol=1e-6)
    loss.backward()
    assert all(p.grad is None for p in technique.target.parameters())
    assert all(p.grad is not None for p in technique.predictor.parameters())


def test_the_targets_rate_goes_from_its_base_to_one_by_a_cosine():
    assert byol.target_rate(0.0, 0.9) == pytest.approx(0.9)
    assert byol.target_rate(0.5, 0.9) == pytest.approx(0.95)
    assert byol.target_rate(1.0, 0.9) == pytest.approx(1.0)
    assert byol.target_rate(1 / 3, 0.9) == pytest.approx(1 - 0.1 * 0.75)


def test_the_target_moves_by_its_rate():
    technique = byol.BYOL(resnet, tau=0.8, hidden=32, output=16)
    before = copy.deepcopy(technique.target)
    with torch.no_grad():
        for p in [*technique.encoder.parameters(), *technique.projector.parameters()]:
            p.add_(1.0)
    technique.after_step(0.0)
    moved = zip(before.parameters(), technique.target.parameters(), strict=True)
    assert all(torch.allclose(new, old + 0.2, atol=1e-6) for old, new in moved)


class Masked(torch.nn.Conv2d):
    """A convolution half of whose weights are masked out after half of the training."""

    def __init__(self):
        super().__init__(3, 3, 1, bias=False)
        self.register_buffer("mask", torch.ones_like(self.weight))

    @torch.no_grad()
    def after_step(self, progress):
        if progress >= 0.5:
            self.mask[:, 1:] = 0
        self.weight.mul_(self.mask)


def test_the_target_is_masked_as_its_network_is():
    """The target of a network with masks never heard of a step: what was masked in the one lived in the other."""

    def masked(**options):
        backbone = resnet(**options)
        backbone.net.masked = Masked()
        return backbone

    technique = byol.BYOL(masked, hidden=32, output=16)
    technique.after_step(0.5)
    online, target = technique.encoder.net.masked, technique.target[0].net.masked
    assert not online.mask.all() and torch.equal(online.mask, target.mask)
    assert torch.equal(online.weight == 0, target.weight == 0)


def test_byols_second_view_is_solarised_and_its_first_blurred():
    technique = byol.BYOL(resnet, hidden=32, output=16)
    flat = torch.rand(400, 3, 32, 32, generator=rng())
    one, two = technique.views(flat, rng(1))
    roughness = [v.diff(dim=3).abs().mean((1, 2, 3)) for v in (one, two)]
    assert roughness[0].mean() < roughness[1].mean()


def test_the_distance_is_full_precision_under_mixed_precision():
    one, two = torch.randn(8, 16, generator=rng(1)), torch.randn(8, 16, generator=rng(2))
    with torch.autocast("cpu", torch.bfloat16):
        distance = byol.regression(one, two)
    assert torch.equal(distance, byol.regression(one, two))


@pytest.mark.parametrize(
    ("epochs", "lr", "decay", "tau"),
    [(40, 0.45, 1e-6, 0.97), (100, 0.45, 1e-6, 0.99), (300, 0.3, 1e-6, 0.99), (1000, 0.2, 1.5e-6, 0.996)],
)
def test_the_authors_presets_by_epochs(epochs, lr, decay, tau):
    """byol/configs/byol.py of google-deepmind/deepmind-research; ten epochs of warm-up whatever the length."""
    cell = make_cell("byol", "resnet18", recipe="paper", epochs=epochs)
    assert (cell.recipe.lr, cell.recipe.weight_decay, cell.build().tau) == (lr, decay, tau)
    assert (cell.recipe.epochs, cell.recipe.warmup, cell.recipe.batch) == (epochs, 10, 4096)
    given = make_cell("byol", "resnet18", recipe="paper", epochs=epochs, options={"tau": 0.5, "lr": 0.1})
    assert (given.recipe.lr, given.technique_options["tau"]) == (0.1, 0.5)


def test_the_last_layers_have_no_bias():
    technique = byol.BYOL(resnet, hidden=32, output=16)
    assert technique.projector[-1].bias is None and technique.predictor[-1].bias is None
