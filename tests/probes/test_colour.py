"""Colour, on networks whose use of it is known."""

import math

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.images.colour import rgb_to_lab
from lilliput.probes import LabelledExam
from lilliput.probes.colour import cohens_d, colour, influences, pulls, specific_pulls
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
    halves = [following[f"colour_pull_half/{pair}"] for pair in ("a/b", "b/a")]
    assert following["colour_pull_half"] == pytest.approx(sum(half**-2 for half in halves) ** -0.5)
    assert following["colour_pull_half/a/b"] == pytest.approx(half_by_hand(colours, truth, by_colour))


def half_by_hand(colours, truth, guess):
    """Of the pull of class 1 on images of class 0: both groups' lean, then 1.96 standard errors of Cohen's d."""
    means = [colours[truth == number].mean(0) for number in (0, 1)]
    lean = (colours - means[0]).norm(dim=1) - (colours - means[1]).norm(dim=1)
    taken, known = (lean[(truth == 0) & (guess == number)] for number in (1, 0))
    m, n = len(taken), len(known)
    pooled = ((m - 1) * taken.var() + (n - 1) * known.var()) / (m + n - 2)
    d = (taken.mean() - known.mean()) / pooled.sqrt()
    return 1.96 * math.sqrt((m + n) / (m * n) + d * d / (2 * (m + n)))


def hazy_drawings(classes=6, each=300, size=16):
    """[N, 3, H, H] and classes [N]: each class has stripes and a tint; haze, which makes both faint, spares few."""
    truth = torch.arange(classes).repeat_interleave(each)
    clear = torch.rand(len(truth), generator=rng(1))[:, None, None]
    tints = torch.rand(classes, 3, generator=rng(2)) - 0.5
    tint = tints[truth][:, :, None, None] * clear[:, None] + torch.randn(len(truth), 3, 1, 1, generator=rng(3)) * 0.05
    noise = torch.randn(len(truth), size, size, generator=rng(4)) * 0.5
    pattern = stripes(classes, size)[truth] * 0.1 * clear + noise
    return (0.5 + 0.4 * tint + pattern[:, None]).clamp(0, 1), truth


def stripes(classes, size):
    """[C, H, H]: of a class the next frequency, without a mean."""
    place = torch.arange(size) * torch.pi / size
    waves = torch.stack([torch.cos((place + torch.pi / size / 2) * (k + 2)) for k in range(classes)])
    return waves[:, None].expand(-1, size, -1)


def by_stripes(images):
    """Told by grey alone, each image's mean and strength taken out."""
    grey = (images * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1)
    grey = (grey - grey.mean((1, 2), keepdim=True)) / grey.std((1, 2), keepdim=True)
    return torch.einsum("nhw,chw->nc", grey, stripes(6, images.shape[-1])).argmax(1)


def by_mean_colour(images, truth):
    colours = images.mean((2, 3))
    means = torch.stack([colours[truth == number].mean(0) for number in range(6)])
    return torch.cdist(colours, means).argmin(1)


def test_the_specific_pull_is_zero_without_sight_of_colour_where_the_plain_pull_is_not():
    """What is hazy is hard for a classifier without colours and is near every other class's colour."""
    images, truth = hazy_drawings()
    colours, names = rgb_to_lab(images).mean((2, 3)), list("abcdef")
    blind, seeing = by_stripes(images), by_mean_colour(images, truth)
    assert 0.3 < (blind != truth).float().mean() < 0.8
    plain, specific = (dict(of(colours, truth, blind, names)) for of in (pulls, specific_pulls))
    assert plain["colour_pull"] > 2 * plain["colour_pull_half"]
    assert abs(specific["colour_pull_specific"]) < specific["colour_pull_specific_half"] < 0.15
    specific = dict(specific_pulls(colours, truth, seeing, names))
    assert specific["colour_pull_specific"] - specific["colour_pull_specific_half"] > 0.8


def test_the_specific_pull_compares_mistakes_with_mistakes_by_hand():
    """Images of a at x = 0 are right; nearer to b (x = 10) those taken for b lean by 2x - 10, whatever the right do."""
    to_b, to_c = torch.tensor([3.0, 4, 5, 6, 7]), torch.tensor([1.0, 2, 3, 4, 5])
    x = torch.cat([to_b, to_c, -torch.cat([to_b, to_c]), torch.full((5,), 10.0), torch.full((5,), 10.0)])
    colours = torch.stack([x, torch.cat([torch.zeros(25), torch.full((5,), 100.0)]), torch.zeros(30)], 1)
    truth = torch.tensor([0] * 20 + [1] * 5 + [2] * 5)
    predicted = torch.tensor([1] * 5 + [2] * 5 + [0] * 10 + [1] * 5 + [2] * 5)
    rows = dict(specific_pulls(colours, truth, predicted, ["a", "b", "c"]))
    assert rows["colour_pull_specific/a/b"] == pytest.approx(2 / math.sqrt(2.5), rel=1e-4)
    assert rows["colour_pull_specific_pairs"] == 2
    assert {name for name in rows if "/" in name and "half" not in name} == {
        "colour_pull_specific/a/b",
        "colour_pull_specific/a/c",
    }
    assert dict(specific_pulls(colours[:25], truth[:25], predicted[:25] % 2, ["a", "b"])) == {
        "colour_pull_specific_pairs": 0
    }


def test_the_specific_pulls_interval_holds_zero_in_95_of_100_studies_whose_mistakes_are_blind():
    """Taken as if pairs shared no image, it would in 99: those taken for p stand in the pair of q too."""
    held, studies, truth = 0, 300, torch.arange(240) % 3
    for study in range(studies):
        colours = torch.randn(240, 3, generator=rng(study)) + 4.0 * torch.eye(3)[truth]
        guess = torch.randint(0, 3, (240,), generator=rng(1000 + study))
        rows = dict(specific_pulls(colours, truth, guess, ["a", "b", "c"]))
        held += abs(rows["colour_pull_specific"]) < rows["colour_pull_specific_half"]
    assert 0.92 < held / studies < 0.98


def test_the_influences_of_values_on_cohens_d_are_what_leaving_each_out_changes():
    first, second = torch.randn(800, generator=rng(1)) + 1, torch.randn(600, generator=rng(2))
    d, variance = cohens_d(first, second)
    shares = influences(first, second)
    assert sum(part.square().sum() for part in shares).item() == pytest.approx(variance, rel=0.05)
    for place in range(5):
        without = torch.cat([first[:place], first[place + 1 :]])
        assert d - cohens_d(without, second)[0] == pytest.approx(shares[0][place].item(), abs=2e-5)


def test_the_influences_of_a_few_values_of_one_mean_add_up_to_the_variance_of_the_difference():
    """Without a difference the common deviation does not move it: var(x) / m + var(y) / n, in that deviation."""
    first, second = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.0, 3.0, 4.0, 5.0])
    pooled = (2 * first.var() + 3 * second.var()) / 5
    total = sum(part.square().sum() for part in influences(first, second))
    assert total.item() == pytest.approx(((first.var() / 3 + second.var() / 4) / pooled).item())


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
