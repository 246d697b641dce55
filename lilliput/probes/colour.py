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
from lilliput.probes._exam import Exam
from lilliput.probes.knn import nearness
from lilliput.probes.linear import classifier

checkpoints = "last"
CHANGES = {
    "hue": lambda images: augment.shift_hue(images, torch.full((len(images),), 0.5, device=images.device)),
    "grey": lambda images: augment.luma(images)[:, None].expand_as(images),
    "swap": lambda images: images.flip(1),
}
FEWEST = 5  # mistakes of a pair of classes, for a figure of its own


def colour(exam: Exam, *, neighbours: int = 10):
    """For each change of colours: accuracy, what it lost (with half of its 95 % interval), and the share of the nearest
    neighbours that stayed. Then the pull of colour on mistakes, whole and by pair of classes (see `pulls`)."""
    classify, truth = classifier(exam), exam.test_labels
    right = classify(exam.test_features).argmax(1) == truth
    near = _nearest(exam.test_features, exam.train_features, neighbours)
    for name, change in CHANGES.items():
        features = _changed(exam, change)
        now = classify(features).argmax(1) == truth
        lost = right.float() - now.float()
        yield f"accuracy_{name}", now.float().mean().item()
        yield f"loss_{name}", lost.mean().item()
        yield f"loss_{name}_half", 1.96 * lost.std().item() / math.sqrt(len(lost))
        other = _nearest(features, exam.train_features, neighbours)
        same = (near[:, :, None] == other[:, None]).any(2).float().mean().item()
        yield f"neighbours_kept_{name}", same
    yield (
        "held_out_accuracy",
        (
            (classify(exam.train_features[exam.held_out]).argmax(1) == exam.train_labels[exam.held_out])
            .float()
            .mean()
            .item()
        ),
    )
    yield from pulls(mean_colours(exam), truth, classify(exam.test_features).argmax(1), exam.classes)


def mean_colours(exam: Exam) -> Tensor:
    """[M, 3]: the test images' mean colours in Lab."""
    parts = range(0, len(exam.test), 256)
    return torch.cat(
        [rgb_to_lab(exam.test.load(slice(n, n + 256), exam.plan.device)).mean((2, 3)) for n in parts]
    )  # fmt: skip


def pulls(colours: Tensor, truth: Tensor, guess: Tensor, classes: list[str]) -> Iterator[tuple[str, float]]:
    """Whether images taken for another class have more of that class's colour than those told right.

    An image of class t leans towards class p by how much nearer its mean colour is to p's mean than to t's. The pull is
    the difference of that lean between the images of t taken for p and those told right, in standard deviations
    (Cohen's d); the whole one is the mean over pairs, weighed by their certainty. 0: colour has no part in it.
    """
    means = torch.stack([colours[truth == c].mean(0) for c in range(len(classes))])
    found = []
    for t, own in enumerate(classes):
        for p, other in enumerate(classes):
            wrong, right = (truth == t) & (guess == p), (truth == t) & (guess == t)
            if t == p or wrong.sum() < FEWEST or right.sum() < FEWEST:
                continue
            lean = (colours - means[t]).norm(dim=1) - (colours - means[p]).norm(dim=1)
            d, variance = cohens_d(lean[wrong], lean[right])
            found.append((d, 1 / variance))
            yield f"colour_pull/{own}/{other}", d
            yield f"colour_pull_half/{own}/{other}", 1.96 * math.sqrt(variance)
    if found:
        weight = sum(one for _, one in found)
        yield "colour_pull", sum(d * one for d, one in found) / weight
        yield "colour_pull_half", 1.96 / math.sqrt(weight)


def cohens_d(one: Tensor, two: Tensor) -> tuple[float, float]:
    """The difference of two means in their common standard deviation, and its variance."""
    m, n = len(one), len(two)
    pooled = ((m - 1) * one.var() + (n - 1) * two.var()) / (m + n - 2)
    d = ((one.mean() - two.mean()) / pooled.clamp(min=1e-20).sqrt()).item()
    return d, (m + n) / (m * n) + d * d / (2 * (m + n))


@torch.inference_mode()
def _changed(exam: Exam, change) -> Tensor:
    exam.encoder.eval()
    found = []
    for first in range(0, len(exam.test), 256):
        images = change(exam.test.load(slice(first, first + 256), exam.plan.device))
        with exam.plan.autocast():
            found.append(exam.encoder(images).float())
    return torch.cat(found)


def _nearest(queries: Tensor, bank: Tensor, neighbours: int) -> Tensor:
    parts = (nearness(block, bank)["cosine"] for block in queries.split(1024))
    return torch.cat([part.topk(min(neighbours, len(bank))).indices for part in parts])
