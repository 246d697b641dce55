"""DINO against its paper's algorithm, written plainly, or cases worked by hand."""

import copy
import math

import pytest
import torch

from lilliput.techniques import dino
from tests.conftest import rng
from tests.techniques.conftest import resnet

SMALL = {"hidden": 16, "narrow": 8, "output": 12}


def plainly(said, wanted, temperature):
    total = 0.0
    for row, probabilities in zip(said, wanted, strict=True):
        top = sum(math.exp(value / temperature) for value in row.tolist())
        pairs = zip(row.tolist(), probabilities.tolist(), strict=True)
        total -= sum(p * math.log(math.exp(v / temperature) / top) for v, p in pairs)
    return total / len(said)


def test_the_loss_is_a_cross_entropy():
    said, wanted = torch.randn(5, 7, generator=rng(1)), torch.randn(5, 7, generator=rng(2)).softmax(1)
    assert dino.cross_entropy(said, wanted, temperature=0.3).item() == pytest.approx(
        plainly(said, wanted, 0.3), rel=1e-5
    )


def test_each_view_is_told_what_the_teacher_says_of_the_other_whole_ones(images):
    torch.manual_seed(0)
    technique = dino.DINO(resnet, **SMALL, small_views=2).eval()
    technique.centre.normal_(generator=rng())
    one, two, small = technique.views(images, rng())
    wanted = [((technique.teacher(view) - technique.centre) / 0.04).softmax(1) for view in (one, two)]
    first, second = (technique.head(technique.encoder(view)) for view in (one, two))
    parts = [technique.head(technique.encoder(part)) for part in small.chunk(2)]
    pairs = [(second, 0), (first, 1), *((part, whole) for part in parts for whole in (0, 1))]
    mean = sum(plainly(said, wanted[whole], 0.1) for said, whole in pairs) / len(pairs)
    assert technique(one, two, small).item() == pytest.approx(mean, rel=1e-4)


def test_the_norms_of_a_head_take_away_what_all_features_share():
    torch.manual_seed(0)
    alike = torch.randn(1, 16, generator=rng()) + 0.01 * torch.randn(64, 16, generator=rng(1))
    spread = [dino.Head(16, 32, 8, 24, norm=norm).train()(alike).std(0).mean().item() for norm in (False, True)]
    assert spread[1] > 20 * spread[0]


def test_after_a_step_the_teacher_follows_and_the_centre_is_a_moving_average(images):
    torch.manual_seed(0)
    technique = dino.DINO(resnet, **SMALL, momentum=0.9, centring=0.8, small_views=0)
    technique(*technique.views(images, rng()))
    before = copy.deepcopy(technique)
    with torch.no_grad():
        for p in technique.encoder.parameters():
            p.add_(1.0)
    technique.after_step(0.0)
    moved = zip(before.teacher[0].parameters(), technique.teacher[0].parameters(), strict=True)
    assert all(torch.allclose(new, old + 0.1, atol=1e-5) for old, new in moved)
    torch.testing.assert_close(technique.centre, 0.2 * technique.said.flatten(0, 1).mean(0))


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 0.04), (0.15, 0.055), (0.3, 0.07), (1.0, 0.07)])
def test_the_teacher_is_coldest_at_first(images, progress, temperature):
    technique = dino.DINO(resnet, **SMALL, small_views=0)
    technique(*technique.views(images, rng()))
    technique.after_step(progress)
    assert technique.sharp.item() == pytest.approx(temperature)


def test_only_the_student_learns_and_guessing_is_all_outputs_alike(images):
    technique = dino.DINO(resnet, **SMALL, small_views=0)
    technique(*technique.views(images, rng())).backward()
    assert all(p.grad is None for p in technique.teacher.parameters())
    assert all(p.grad is not None for p in technique.head.parameters())
    even = torch.full((3, 12), 1 / 12)
    assert dino.cross_entropy(torch.zeros(3, 12), even, temperature=0.1).item() == pytest.approx(technique.guessing(3))
