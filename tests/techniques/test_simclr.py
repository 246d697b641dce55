"""SimCLR against its paper's formulas written plainly, or cases worked by hand."""

import math

import pytest
import torch

from lilliput.techniques import simclr
from tests.conftest import rng
from tests.techniques.conftest import resnet


def nt_xent_plainly(one, two, temperature, decoupled=False):
    """Equation 1 of the paper, term by term."""
    z = [*one, *two]
    n = len(one)

    def similarity(i, j):
        return torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm()) / temperature

    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k != i and not (decoupled and k == partner)]
        total -= similarity(i, partner) - math.log(sum(math.exp(similarity(i, k)) for k in others))
    return total / (2 * n)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_papers_formula(temperature, decoupled):
    one, two = torch.randn(5, 7, generator=rng(1)), torch.randn(5, 7, generator=rng(2))
    ours = simclr.nt_xent(one, two, temperature=temperature, decoupled=decoupled)
    assert ours.item() == pytest.approx(nt_xent_plainly(one, two, temperature, decoupled).item(), rel=1e-5)


@pytest.mark.parametrize(("decoupled", "others"), [(False, 31), (True, 30)])
def test_the_loss_of_a_collapsed_network_is_that_of_guessing(decoupled, others):
    same, options = torch.ones(16, 4), {"temperature": 0.1, "decoupled": decoupled}
    assert simclr.nt_xent(same, same, **options).item() == pytest.approx(math.log(others), rel=1e-5)
    assert simclr.SimCLR(resnet, **options).guessing(16) == pytest.approx(math.log(others))
    small = simclr.small_xent(same, same, same, temperature=0.1).item()  # among the 16 images
    assert small == pytest.approx(math.log(16), rel=1e-5)
    with_small = simclr.SimCLR(resnet, small_views=2, small_weight=0.25, **options).guessing(16)
    assert with_small == pytest.approx(0.75 * math.log(others) + 0.25 * small)


def test_nt_xent_does_not_depend_on_the_order_of_the_images():
    one, two = torch.randn(6, 4, generator=rng(1)), torch.randn(6, 4, generator=rng(2))
    order = torch.randperm(6, generator=rng(3))
    a = simclr.nt_xent(one, two, temperature=0.2)
    assert torch.allclose(a, simclr.nt_xent(one[order], two[order], temperature=0.2), atol=1e-6)
    assert torch.allclose(a, simclr.nt_xent(two, one, temperature=0.2), atol=1e-6)


def test_the_loss_is_full_precision_under_mixed_precision():
    one, two = torch.randn(8, 16, generator=rng(1)), torch.randn(8, 16, generator=rng(2))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = simclr.nt_xent(one, two, temperature=0.1)
    assert torch.equal(mixed, simclr.nt_xent(one, two, temperature=0.1))


def test_the_head_is_two_layers_both_with_batch_norm_as_in_the_authors_code():
    """google-research/simclr, model_util.py: the last layer has neither bias nor ReLU, but batch norm."""
    technique = simclr.SimCLR(resnet)
    kinds = [type(layer).__name__ for layer in technique.projector]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert technique.projector[3].weight.shape == (128, technique.encoder.dim) and technique.projector[3].bias is None


def test_partners_are_found_where_they_are_nearest():
    one = torch.eye(4)
    assert simclr.partners_found(one, one + 0.1) == 1
    assert simclr.partners_found(one, one.roll(1, 0)) == 0
    one, two = torch.tensor([[1.0, 0], [0, 1], [1, 0.9]]), torch.tensor([[1.0, 0.1], [0.1, 1], [0, -1]])
    assert simclr.partners_found(one, two).item() == pytest.approx(4 / 6)
