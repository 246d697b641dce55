"""Colour: how much of the judgement hangs on it.

Two questions of the study that we follow (section 5.2: an airplane is taken for a ship over blue). What changes when
the colours of the test images do: half a turn of the hue, none at all, red and blue exchanged. And whether mistakes
follow colour: Cohen's d with the interval of Hedges, Olkin, "Statistical Methods for Meta-Analysis", 1985, section 5.
"""

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
    neighbours that stayed. Then the pull of colour on mistakes, whole and by pair of classes (see `pulls`)."""
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
    held_out = classify(exam.train_features[exam.held_out]).argmax(1)
    yield "held_out_accuracy", accuracy(held_out, exam.train_labels[exam.held_out])
    yield from pulls(mean_colours(exam), truth, predicted, exam.classes)


def mean_colours(exam: LabelledExam) -> Tensor:
    """[M, 3]: the test images' mean colours in Lab."""

    def means(images: Tensor) -> Tensor:
        return rgb_to_lab(images).mean((2, 3))

    return torch.cat(over_batches(means, exam.test, plan=exam.plan, label=exam.titled("mean colours")))


def pulls(colours: Tensor, truth: Tensor, predicted: Tensor, classes: list[str]) -> Iterator[tuple[str, float]]:
    """Whether images taken for another class have more of that class's colour than those recognised.

    An image of class t leans towards class p by how much nearer its mean colour is to p's mean than to t's. The pull is
    the difference of that lean between the images of t taken for p and those recognised, in standard deviations
    (Cohen's d); the whole one is the mean over pairs, weighed by their certainty. 0: colour has no part in it.

    `colours` [M, 3], `truth` and `predicted` [M]: numbers of `classes`.
    """
    means = torch.stack([colours[truth == c].mean(0) for c in range(len(classes))])
    pairs = []
    for t, true_class in enumerate(classes):
        for p, taken_for in enumerate(classes):
            wrong, right = (truth == t) & (predicted == p), (truth == t) & (predicted == t)
            if t == p or wrong.sum() < FEWEST or right.sum() < FEWEST:
                continue
            lean = (colours - means[t]).norm(dim=1) - (colours - means[p]).norm(dim=1)
            d, variance = cohens_d(lean[wrong], lean[right])
            pairs.append((d, 1 / variance))
            yield f"colour_pull/{true_class}/{taken_for}", d
            yield f"colour_pull_half/{true_class}/{taken_for}", 1.96 * math.sqrt(variance)
    if pairs:
        certainty = sum(weight for _, weight in pairs)
        yield "colour_pull", sum(d * weight for d, weight in pairs) / certainty
        yield "colour_pull_half", 1.96 / math.sqrt(certainty)


def cohens_d(first: Tensor, second: Tensor) -> tuple[float, float]:
    """The difference of the means of two samples in their common standard deviation, and its variance."""
    m, n = len(first), len(second)
    pooled = ((m - 1) * first.var() + (n - 1) * second.var()) / (m + n - 2)
    d = ((first.mean() - second.mean()) / pooled.clamp(min=1e-20).sqrt()).item()
    return d, (m + n) / (m * n) + d * d / (2 * (m + n))


def _nearest(queries: Tensor, bank: Tensor, neighbours: int) -> Tensor:
    """[Q, K] rows of the bank nearest to each query, by cosine."""
    parts = (nearness(block, bank)["cosine"] for block in queries.split(BLOCK))
    return torch.cat([part.topk(min(neighbours, len(bank))).indices for part in parts])
