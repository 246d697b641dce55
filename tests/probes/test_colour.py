"""Colour, on networks whose use of it is known."""

import math

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.probes import LabelledExam
from lilliput.probes.colour import cohens_d, colour, pulls
from tests.conftest import CPU, rng


def test_cohens_d_by_hand_and_a_pull_only_where_mistakes_follow_colour():
    d, variance = cohens_d(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 3.0]))
    assert d == pytest.approx(1 / math.sqrt(2)) and variance == pytest.approx(1 + d * d / 8)
    count = 400
    truth = torch.arange(count) % 2
    colours = torch.randn(count, 3, generator=rng()) + truth[:, None] * torch.tensor([2.0, 0, 0])
    by_colour = (colours[:, 0] > 1).long()
    blind = torch.where(torch.rand(count, generator=rng(3)) < 0.3, 1 - truth, truth)
    following, independent = (dict(pulls(colours, truth, guess, ["a", "b"])) for guess in (by_colour, blind))
    assert following["colour_pull"] - following["colour_pull_half"] > 1
    assert abs(independent["colour_pull"]) < independent["colour_pull_half"] * 1.5
    assert set(following) >= {"colour_pull/a/b", "colour_pull_half/b/a"}


class Palette(nn.Module):
    """Sees nothing but the mean colours of the image's top, middle and bottom."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, (3, 1)).flatten(1)


def test_a_network_trained_where_colour_tells_the_class_shows_it_and_one_trained_where_it_does_not_shows_less():
    prepare = catalog.dataset("scenes")
    lost = {}
    for tie in (1.0, 0.0):
        data = prepare(image_size=32, limit=2, pool_count=2, train_count=600, test_count=300, colour_tie=tie)
        rows = dict(colour(LabelledExam(Palette(), data.train, data.test, plan=CPU)))
        lost[tie] = rows["loss_hue"], rows["loss_hue_half"]
        assert rows["loss_grey"] > 0 or tie == 0
    assert lost[1.0][0] - lost[1.0][1] > 0.2
    assert lost[1.0][0] - lost[0.0][0] > lost[1.0][1] + lost[0.0][1]


def test_a_change_of_colour_costs_a_network_that_sees_only_lightness_nothing(scenes):
    class Grey(nn.Module):
        def forward(self, images):
            luma = (images * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1)
            return nn.functional.adaptive_avg_pool2d(luma[:, None], 6).flatten(1)

    rows = dict(colour(LabelledExam(Grey(), scenes.train, scenes.test, plan=CPU)))
    assert abs(rows["loss_grey"]) < 0.011 and rows["neighbours_kept_grey"] > 0.99
