"""Inpainting against its paper's formula written plainly, or cases worked by hand."""

import math

import pytest
import torch

from lilliput.errors import BadSetting
from lilliput.techniques import inpainting
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_squares_of_an_eighth_to_a_quarter_of_the_side_are_cut_out_anywhere():
    cut = inpainting.cut_out(400, 1, 32, rng())
    rows, columns = (cut[:, 0].any(axis).sum(1) for axis in (2, 1))
    assert torch.equal(rows, columns) and torch.equal(cut.sum((1, 2, 3)), rows * columns)
    assert rows.min() == 4 and rows.max() == 8
    assert all(cut[:, 0, row, column].any() for row in (1, 16, 30) for column in (1, 16, 30))  # the edges too


def test_blocks_cover_at_most_a_quarter_and_every_image_has_its_own():
    cut = inpainting.cut_out(16, 4, 32, rng())
    assert cut.float().mean((1, 2, 3)).max() <= 0.25
    assert len({own.numpy().tobytes() for own in cut}) == 16


def test_the_loss_is_the_squared_difference_over_what_was_cut_out():
    images, painted = torch.rand(2, 3, 4, 4, generator=rng(1)), torch.rand(2, 3, 4, 4, generator=rng(2))
    cut = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    cut[0, 0, 1, 2] = cut[1, 0, 0, 0] = cut[1, 0, 3, 3] = True
    places = [(0, 1, 2), (1, 0, 0), (1, 3, 3)]
    plainly = sum(((images[b, c, y, x] - painted[b, c, y, x]) ** 2).item() for b, y, x in places for c in range(3)) / 9
    assert inpainting.missed(images, painted, cut).item() == pytest.approx(plainly)


def test_the_encoder_does_not_see_what_was_cut_out(images):
    technique = inpainting.Inpainting(resnet).eval()
    cut = inpainting.cut_out(len(images), 4, 32, rng())
    seen = []
    technique.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    technique.encoder.maps = lambda shown: seen.append(shown) or torch.zeros(len(shown), technique.encoder.dim, 1, 1)
    technique(images, cut)
    technique(torch.where(cut, 1 - images, images), cut)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], images)


def test_painting_the_mean_of_what_is_around_has_the_loss_of_guessing():
    images = torch.zeros(2, 3, 16, 16)
    images[:, :, :, 8:] = 1
    cut = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    cut[:, :, 4:8, 4:8] = True  # of the dark half: 128 bright pixels and 112 dark ones are left
    technique = inpainting.Inpainting(resnet)
    technique(images, cut)
    assert technique.measures["loss_of_guessing"].item() == pytest.approx((128 / 240) ** 2, rel=1e-5)


@pytest.mark.parametrize("size", [32, 48, 64])
def test_what_is_painted_has_at_least_the_images_size(size):
    technique = inpainting.Inpainting(resnet)
    painted = technique.paint(technique.encoder.maps(torch.rand(2, 3, size, size)))
    assert painted.shape[1] == 3 and painted.shape[2] >= size


def test_the_judge_is_pulled_one_way_and_the_painter_the_other(images):
    """Equation 2: the judge's own loss falls by its step, and rises by the painter's."""
    technique = inpainting.Inpainting(resnet, adversarial=0.5, hidden=16)
    painted = torch.rand(images.shape, generator=rng(5)).requires_grad_()
    loss = technique._judged(technique.judge, images, painted)
    real, made = technique.judge(images), technique.judge(painted)
    plainly = -real.sigmoid().log().mean() - (1 - made.sigmoid()).log().mean()
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-5)
    (turned,) = torch.autograd.grad(loss, painted, retain_graph=True)
    (straight,) = torch.autograd.grad(plainly, painted)
    torch.testing.assert_close(turned, -0.5 * straight)


def test_the_adversarial_part_is_an_option_and_a_share(images):
    assert inpainting.Inpainting(resnet).judge is None
    technique = inpainting.Inpainting(resnet, adversarial=0.25)
    views = technique.views(images, rng())
    whole = technique(*views).item()
    told = whole - 0.75 * inpainting.Inpainting.forward(without_judge(technique), *views).item()
    assert told == pytest.approx(2 * math.log(2), rel=0.2)  # a judge that cannot tell yet
    with pytest.raises(BadSetting, match=r"adversarial 1\.5"):
        inpainting.Inpainting(resnet, adversarial=1.5)


def without_judge(technique):
    technique.judge = None
    return technique
