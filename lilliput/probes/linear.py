"""Linear probe: multinomial logistic regression on frozen features; the judge of the study that we follow.

Protocol after Zhang, Isola, Efros, ECCV 2016, section 3.2. Solved to its optimum, which is one point: a judge without
steps, rates or luck: Nocedal, Wright, "Numerical Optimization", 2006, section 5.2 (Polak-Ribière conjugate gradients).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.probes._exam import Exam, score
from lilliput.system.progress import say

DECAYS = (3e-4, 2e-3, 1e-2, 5e-2)


class Classifier(NamedTuple):
    """Features [N, D] -> the score of every class [N, C]."""

    mean: Tensor
    std: Tensor
    weights: Tensor  # [D, C], of standardised features
    biases: Tensor  # [C]

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std @ self.weights + self.biases


def linear(exam: Exam, *, steps: int = 200, tolerance: float = 1e-4):
    """Fit on nine tenths of the labelled images, choose the weight decay on the held-out tenth, report on test."""
    classify = classifier(exam, steps=steps, tolerance=tolerance)
    if not exam.kept["classifier_converged"]:
        exam.flags["linear"] = "probe_not_converged"
    guess = classify(exam.test_features).argmax(1)
    yield from score(guess, exam, classify(exam.train_features[exam.held_out]).argmax(1))


def classifier(exam: Exam, *, steps: int = 200, tolerance: float = 1e-4) -> Classifier:
    """The linear probe of an exam; fitted once for all that ask."""
    if "classifier" not in exam.kept:
        held_out = exam.train_features[exam.held_out], exam.train_labels[exam.held_out]
        fitted = exam.train_features[exam.fit], exam.train_labels[exam.fit]
        found, left = best_classifier(*fitted, *held_out, len(exam.classes), steps=steps, tolerance=tolerance)
        exam.kept["classifier_converged"] = left <= tolerance  # not a number is not
        if not exam.kept["classifier_converged"]:
            say(f"{exam.label}: the linear probe has not converged in {steps} steps ({left:.1g} above {tolerance:.1g})")
        exam.kept["classifier"] = found
    return exam.kept["classifier"]


def best_classifier(
    features: Tensor, labels: Tensor, held_out: Tensor, truth: Tensor, classes: int, **named: Any
) -> tuple[Classifier, float]:
    """Fitted to features [N, D] and labels [N], its weight decay chosen on held-out ones; and what `fit` left."""
    mean, std = features.mean(0), features.std(0)
    std = torch.where(std > 0, std, 1.0)  # however small: an untrained network may speak very softly
    weights, biases, left = fit((features - mean) / std, labels, classes, **named)
    all_of_them = [Classifier(mean, std, weights[:, k], biases[k]) for k in range(len(DECAYS))]
    right = [(one(held_out).argmax(1) == truth).sum().item() for one in all_of_them]
    return all_of_them[right.index(max(right))], left


def fit(
    features: Tensor, labels: Tensor, classes: int, *, steps: int = 200, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor, float]:
    """[N, D] centred, [N] -> weights [D, K, C] and biases [K, C] of least mean cross-entropy + decay |weights|^2, for
    each of K decays; and by how much, about, the worst of them is above its least, twice over.

    Conjugate gradients, each direction scaled by the curvature that even odds would have, which is diagonal where the
    features are turned to their principal axes; every step as long as a Newton step along its line. The decays share
    every product of matrices.
    """
    count, (images, width) = len(DECAYS), features.shape
    truth = F.one_hot(labels, classes).to(features.dtype)[:, None]
    prior = truth.mean(0).clamp(min=0.5 / images).log().expand(count, classes)
    if not features.isfinite().all():
        return features.new_zeros(width, count, classes), prior, torch.nan
    variances, axes = principal(features)
    turned = torch.cat([features @ axes, features.new_ones(images, 1)], dim=1)  # a bias is the weight of a 1
    decay = torch.tensor(DECAYS, device=features.device).expand(len(variances), -1)
    decay = torch.cat([decay, decay.new_zeros(1, count)])[..., None]  # [D + 1, K, 1]
    scale = 1 / (torch.cat([variances.clamp(min=0), variances.new_ones(1)])[:, None, None] / classes + 2 * decay)

    at = torch.cat([features.new_zeros(len(variances), count, classes), prior[None]])
    logits = (turned @ at.flatten(1)).view(images, count, classes)
    direction = torch.zeros_like(at)
    slope_before, above_before = torch.zeros_like(at), features.new_full((count,), torch.inf)
    for _ in range(steps):
        odds = logits.softmax(2)
        slope = (turned.T @ (odds - truth).flatten(1)).view_as(at) / images + 2 * decay * at
        descent = scale * slope
        above = (slope * descent).sum((0, 2))
        if above.max() < tolerance:
            break
        kept = ((descent * (slope - slope_before)).sum((0, 2)) / above_before).clamp(min=0)
        direction = kept[:, None] * direction - descent
        slope_before, above_before = slope, above
        change = (turned @ direction.flatten(1)).view_as(logits)
        mean = (odds * change).sum(2, keepdim=True)
        bend = (odds * (change - mean).square_()).sum((0, 2)) / images + (2 * decay * direction.square()).sum((0, 2))
        length = (-(slope * direction).sum((0, 2)) / bend.clamp(min=1e-12))[:, None]
        at, logits = at + length * direction, logits + length * change
    return (axes @ at[:-1].flatten(1)).view(width, count, classes), at[-1], above.max().item()


def principal(features: Tensor) -> tuple[Tensor, Tensor]:
    """[N, D] centred -> variances [R] along the principal axes and the axes [D, R], R the smaller of N and D.

    In double precision: where many features are dead, LAPACK's single one now and then does not converge.
    """
    images, width = features.shape
    place = "cpu" if features.device.type == "mps" else features.device  # which has no doubles
    if images < width:  # no image lies outside of their span, and then neither do the weights
        _, lengths, across = torch.linalg.svd(features.to(place, torch.float64), full_matrices=False)
        variances, axes = lengths**2 / images, across.T
    else:
        variances, axes = torch.linalg.eigh((features.T @ features / images).to(place, torch.float64))
    return variances.to(features), axes.to(features)
