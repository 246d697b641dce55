"""Counting against equation 6 of its paper, written plainly."""

import pytest
import torch

from lilliput.techniques import counting
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_the_loss_is_the_papers_formula():
    whole, parts = torch.rand(4, 6, generator=rng(1)), torch.rand(4, 6, generator=rng(2)) * 3
    plainly = 0.0
    for image in range(4):
        own = ((whole[image] - parts[image]) ** 2).sum()
        other = ((whole[image - 1] - parts[image]) ** 2).sum()
        plainly += own + max(0.0, 5.0 - other)
    assert counting.miscounted(whole, parts, margin=5.0).item() == pytest.approx((plainly / 4).item(), rel=1e-5)


def test_counts_of_nothing_lose_the_margin():
    nothing = torch.zeros(5, 3)
    technique = counting.Counting(resnet, hidden=8, output=3)
    assert counting.miscounted(nothing, nothing, margin=10.0).item() == technique.guessing(5) == 10.0


def test_before_training_all_counts_lie_within_the_margin(images):
    torch.manual_seed(0)
    technique = counting.Counting(resnet)
    (view,) = technique.views(images, rng())
    counts = technique.count(technique.encoder(torch.nn.functional.interpolate(view, (16, 16))))
    assert 0 < (4 * counts).square().sum(1).max() < technique.margin
    assert counts.max() > 0 and technique(view).item() == pytest.approx(technique.margin, rel=0.1)


def test_what_is_counted_is_counted_in_the_half_size_and_the_four_quarters(images):
    torch.manual_seed(0)
    technique = counting.Counting(resnet, hidden=16, output=8).eval()
    (view,) = technique.views(images, rng())

    def count(pixels):
        return technique.count(technique.encoder(pixels))

    whole = count(torch.nn.functional.interpolate(view, (16, 16), mode="bilinear", antialias=True))
    parts = sum(
        count(view[:, :, rows, columns])
        for rows in (slice(16), slice(16, 32))
        for columns in (slice(16), slice(16, 32))
    )
    torch.testing.assert_close(technique(view), counting.miscounted(whole, parts, margin=10.0), rtol=1e-3, atol=1e-4)
