"""Colour: how much of the judgement hangs on it.

Two questions of the study that we follow (section 5.2: an airplane is taken for a ship over blue). What changes when
the colours of the test images do: half a turn of the hue, none at all, red and blue exchanged. And whether mistakes
follow colour: Cohen's d with the interval of Hedges, Olkin, "Statistical Methods for Meta-Analysis", 1985, section 5.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lilliput.images import augment
from lilliput.images.colour import rgb_to_lab
from lilliput.probes import LabelledExam, accuracy, half_interval
from lilliput.probes._features import extract, over_batches
from lilliput.probes.knn import BLOCK, nearness
from lilliput.probes.linear import fitted

checkpoints = "last"
CHANGES = {
    "hue": lambda images: augment.shift_hue(images, torch.full((len(images),), 0.5, device=images.device)),
    "grey": lambda images: augment.luma(images)[:, None].expand_as(images),
    "swap": lambda images: images.flip(1),
}
FEWEST = 5  # mistakes of a pair of classes, for a figure of its own


def colour(exam: LabelledExam, *, neighbours: int = 10):
    """For each change of colours: accuracy, what it lost (with half of its 95 % interval), and the share of the nearest
    neighbours that stayed. Then the pulls of colour on mistakes, whole and by pair of classes."""
    classify, truth = exam.once(fitted).classify, exam.test_labels
    predicted = classify(exam.test_features).argmax(1)
    near = _nearest(exam.test_features, exam.train_features, neighbours)
    for name, change in CHANGES.items():
        features = extract(exam.encoder, exam.test, plan=exam.plan, label=exam.titled(f"colour, {name}"), change=change)
        changed = classify(features).argmax(1)
        loss = (predicted == truth).float() - (changed == truth).float()
        yield f"accuracy_{name}", accuracy(changed, truth)
        yield f"loss_{name}", loss.mean().item()
        yield f"loss_{name}_half", half_interval(loss)
        near_now = _nearest(features, exam.train_features, neighbours)
        yield f"neighbours_kept_{name}", (near[:, :, None] == near_now[:, None]).any(2).float().mean().item()
    held_out = exam.once(fitted).on_fit(exam.train_features[exam.held_out]).argmax(1)
    yield "held_out_accuracy", accuracy(held_out, exam.train_labels[exam.held_out])
    colours = mean_colours(exam)
    yield from pulls(colours, truth, predicted, exam.classes)
    yield from specific_pulls(colours, truth, predicted, exam.classes)


def mean_colours(exam: LabelledExam) -> Tensor:
    """[M, 3]: the test images' mean colours in Lab."""

    def means(images: Tensor) -> Tensor:
        return rgb_to_lab(images).mean((2, 3))

    return torch.cat(over_batches(means, exam.test, plan=exam.plan, label=exam.titled("mean colours")))


def pulls(colours: Tensor, truth: Tensor, predicted: Tensor, classes: list[str]) -> Iterator[tuple[str, float]]:
    """Whether images taken for another class have more of that class's colour than those recognised.

    An image of class t leans towards class p by how much nearer its mean colour is to p's mean than to t's. The pull is
    the difference of that lean between the images of t taken for p and those recognised, in standard deviations
    (Cohen's d); the whole one is the mean over pairs, weighed by their certainty. It is above zero without any sight of
    colour too, where what makes an image hard (haze, a small object) takes its colour away: see `specific_pulls`.

    `colours` [M, 3], `truth` and `predicted` [M]: numbers of `classes`.
    """
    pairs = []
    for t, p, lean in _leans(colours, truth, len(classes)):
        wrong, right = (truth == t) & (predicted == p), (truth == t) & (predicted == t)
        if wrong.sum() < FEWEST or right.sum() < FEWEST:
            continue
        d, variance = cohens_d(lean[wrong], lean[right])
        pairs.append((d, 1 / variance))
        yield f"colour_pull/{classes[t]}/{classes[p]}", d
        yield f"colour_pull_half/{classes[t]}/{classes[p]}", 1.96 * math.sqrt(variance)
    if pairs:
        certainty = sum(weight for _, weight in pairs)
        yield "colour_pull", sum(d * weight for d, weight in pairs) / certainty
        yield "colour_pull_half", 1.96 / math.sqrt(certainty)


def specific_pulls(
    colours: Tensor, truth: Tensor, predicted: Tensor, classes: list[str]
) -> Iterator[tuple[str, float]]:
    """As `pulls`, but images of t taken for p against those of t taken for any class other than p and t.

    So both are mistakes, and the pull is zero where colour has no part in which. An image stands in several pairs, and
    the whole one's interval knows it: each image's share in the error is summed over the pairs before it is squared.
    Always says on how many pairs it rests; three classes are the least.
    """
    share, certainty, total, pairs = torch.zeros(len(truth), dtype=torch.float64), 0.0, 0.0, 0
    for t, p, lean in _leans(colours, truth, len(classes)):
        mistaken = (truth == t) & (predicted != t)
        to_p, elsewhere = mistaken & (predicted == p), mistaken & (predicted != p)
        if to_p.sum() < FEWEST or elsewhere.sum() < FEWEST:
            continue
        d, variance = cohens_d(lean[to_p], lean[elsewhere])
        yield f"colour_pull_specific/{classes[t]}/{classes[p]}", d
        yield f"colour_pull_specific_half/{classes[t]}/{classes[p]}", 1.96 * math.sqrt(variance)
        for rows, part in zip((to_p, elsewhere), influences(lean[to_p], lean[elsewhere]), strict=True):
            share[rows.cpu()] += part.cpu() / variance
        certainty, total, pairs = certainty + 1 / variance, total + d / variance, pairs + 1
    if pairs:
        yield "colour_pull_specific", total / certainty
        yield "colour_pull_specific_half", 1.96 * share.norm().item() / certainty
    yield "colour_pull_specific_pairs", float(pairs)


def _leans(colours: Tensor, truth: Tensor, classes: int) -> Iterator[tuple[int, int, Tensor]]:
    """For every two classes t and p [M]: by how much nearer each image is to p's mean colour than to t's."""
    means = torch.stack([colours[truth == number].mean(0) for number in range(classes)])
    away = torch.cdist(colours, means)  # [M, C]
    for t, p in itertools.permutations(range(classes), 2):
        yield t, p, away[:, t] - away[:, p]


def cohens_d(first: Tensor, second: Tensor) -> tuple[float, float]:
    """The difference of the means of two samples in their common standard deviation, and its variance."""
    m, n = len(first), len(second)
    pooled = ((m - 1) * first.var() + (n - 1) * second.var()) / (m + n - 2)
    d = ((first.mean() - second.mean()) / pooled.clamp(min=1e-20).sqrt()).item()
    return d, (m + n) / (m * n) + d * d / (2 * (m + n))


def influences(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each value of the two samples moved their Cohen's d, to first order.

    Through the means and through the common deviation. The squares add up to the variance of d, as nearly as is known.
    """
    first, second = first.double().cpu(), second.double().cpu()
    m, n = len(first), len(second)
    scale = (((m - 1) * first.var() + (n - 1) * second.var()) / (m + n - 2)).clamp(min=1e-20).sqrt()
    x, y = (first - first.mean()) / scale, (second - second.mean()) / scale
    d = (first.mean() - second.mean()) / scale
    spread_x, spread_y = (d / 2 * (values.square() - 1) / (m + n - 2) for values in (x, y))
    return x / math.sqrt(m * (m - 1)) - spread_x, -y / math.sqrt(n * (n - 1)) - spread_y


def _nearest(queries: Tensor, bank: Tensor, neighbours: int) -> Tensor:
    """[Q, K] rows of the bank nearest to each query, by cosine."""
    parts = (nearness(block, bank)["cosine"] for block in queries.split(BLOCK))
    return torch.cat([part.topk(min(neighbours, len(bank))).indices for part in parts])
