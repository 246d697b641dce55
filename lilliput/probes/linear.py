"""Linear probe: multinomial logistic regression on frozen features; the judge of the study that we follow.

Protocol after Zhang, Isola, Efros, ECCV 2016, section 3.2. Solved to its optimum, which is one point: a judge without
steps, rates or luck: Nocedal, Wright, "Numerical Optimization", 2006, section 5.2 (Polak-Ribière conjugate gradients).
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.probes import Flag, LabelledExam, Taken, score
from lilliput.system.progress import say

DECAYS = (3e-4, 2e-3, 1e-2, 5e-2)
ROUNDING = 1e-12  # of the largest variance: what single precision leaves of none


class Classifier(NamedTuple):
    """Features [N, D] -> the score of every class [N, C]."""

    mean: Tensor
    std: Tensor
    weights: Tensor  # [D, C], of standardised features
    biases: Tensor  # [C]

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std @ self.weights + self.biases


class Fitted(NamedTuple):
    """What `fitted` leaves for all probes."""

    classify: Classifier  # of all labelled training images: for test images
    on_fit: Classifier  # of nine tenths of them: for those held out
    converged: bool


def linear(exam: LabelledExam, *, steps: int = 200, tolerance: float = 1e-4):
    """Fit on nine tenths of the labelled images, choose the weight decay on the held-out tenth and report on it; fit
    again on all of them with that decay, and report on test."""
    found = exam.once(fitted, steps=steps, tolerance=tolerance)
    if not found.converged:
        yield Flag("probe_not_converged")
    held_out = found.on_fit(exam.train_features[exam.held_out]).argmax(1)
    taken = found.classify(exam.test_features).argmax(1)
    yield Taken(taken)
    yield from score(taken, exam, held_out)


def fitted(exam: LabelledExam, *, steps: int = 200, tolerance: float = 1e-4) -> Fitted:
    """The linear probe's classifiers: `exam.once(fitted).classify` is of all labelled images."""
    features, labels = exam.train_features, exam.train_labels
    held_out = features[exam.held_out], labels[exam.held_out]
    settings: dict[str, Any] = {"classes": len(exam.classes), "steps": steps, "tolerance": tolerance}
    on_fit, decay, excess = best_classifier(features[exam.fit], labels[exam.fit], *held_out, **settings)
    classify, again = classifier(features, labels, decay=decay, **settings)
    worst = excess if math.isnan(excess) else max(excess, again)
    converged = worst <= tolerance  # not a number is not
    if not converged:
        say(f"{exam.label}: the linear probe has not converged in {steps} steps ({worst:.1g} above {tolerance:.1g})")
    return Fitted(classify, on_fit, converged)


def best_classifier(
    features: Tensor, labels: Tensor, held_out: Tensor, truth: Tensor, classes: int, **settings: Any
) -> tuple[Classifier, float, float]:
    """Fitted to features [N, D] and labels [N], its weight decay chosen by those held out, [H, D] and `truth` [H].

    And that decay, and the excess that `fit` returns, which takes the `settings`.
    """
    candidates, excess = classifiers(features, labels, classes, DECAYS, **settings)
    right = [(classify(held_out).argmax(1) == truth).sum().item() for classify in candidates]
    best = right.index(max(right))
    return candidates[best], DECAYS[best], excess


def classifier(
    features: Tensor, labels: Tensor, classes: int, *, decay: float, **settings: Any
) -> tuple[Classifier, float]:
    """Fitted to features [N, D] and labels [N] by that weight decay; and the excess that `fit` returns."""
    (only,), excess = classifiers(features, labels, classes, (decay,), **settings)
    return only, excess


def classifiers(
    features: Tensor, labels: Tensor, classes: int, decays: tuple[float, ...], **settings: Any
) -> tuple[list[Classifier], float]:
    """One for each weight decay."""
    mean, std = features.mean(0), features.std(0, correction=min(1, len(features) - 1))
    std = torch.where(std > 0, std, 1.0)  # however small: an untrained network may speak very softly
    weights, biases, excess = fit((features - mean) / std, labels, classes, decays=decays, **settings)
    return [Classifier(mean, std, weights[:, k], biases[k]) for k in range(len(decays))], excess


def fit(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    decays: tuple[float, ...] = DECAYS,
    steps: int = 200,
    tolerance: float = 1e-4,
) -> tuple[Tensor, Tensor, float]:
    """[N, D] centred, [N] -> weights [D, K, C] and biases [K, C] of least mean cross-entropy + decay |weights|^2, for
    each of K decays; and the excess: by how much, about, the worst of them is above its least, twice over.
    """
    count, (images, width) = len(decays), features.shape
    truth = F.one_hot(labels, classes).to(features.dtype)[:, None]
    prior = truth.mean(0).clamp(min=0.5 / images).log().expand(count, classes)
    if not features.isfinite().all():
        return features.new_zeros(width, count, classes), prior, torch.nan
    variances, axes = principal(features)
    turned = torch.cat([features @ axes, features.new_ones(images, 1)], dim=1)  # a bias is the weight of a 1
    decay = torch.tensor(decays, device=features.device).expand(len(variances), -1)
    decay = torch.cat([decay, decay.new_zeros(1, count)])[..., None]  # [D + 1, K, 1]
    scale = 1 / (torch.cat([variances.clamp(min=0), variances.new_ones(1)])[:, None, None] / classes + 2 * decay)
    start = torch.cat([features.new_zeros(len(variances), count, classes), prior[None]])
    weights, excess = descend(turned, truth, start, decay, scale, steps=steps, tolerance=tolerance)
    return (axes @ weights[:-1].flatten(1)).view(width, count, classes), weights[-1], excess


def descend(
    features: Tensor, truth: Tensor, weights: Tensor, decay: Tensor, scale: Tensor, *, steps: int, tolerance: float
) -> tuple[Tensor, float]:
    """From `weights` [D, K, C] on to those of least loss of features [N, D] and odds `truth` [N, 1, C]; and the excess.

    Conjugate gradients, each direction scaled by the curvature that even odds would have, which is diagonal where the
    features are turned to their principal axes (`scale` [D, K, 1], its inverse); every step as long as a Newton step
    along its line. The K decays [D, K, 1] share every product of matrices.
    """
    images, (_, count, classes) = len(features), weights.shape
    logits = (features @ weights.flatten(1)).view(images, count, classes)
    direction, gradient_before = torch.zeros_like(weights), torch.zeros_like(weights)
    excess_before = features.new_full((count,), torch.inf)
    for _ in range(steps):
        odds = logits.softmax(2)
        gradient = (features.T @ (odds - truth).flatten(1)).view_as(weights) / images + 2 * decay * weights
        scaled = scale * gradient
        excess = (gradient * scaled).sum((0, 2))
        if excess.max() < tolerance:
            break
        beta = ((scaled * (gradient - gradient_before)).sum((0, 2)) / excess_before).clamp(min=0)
        direction = beta[:, None] * direction - scaled
        gradient_before, excess_before = gradient, excess
        change = (features @ direction.flatten(1)).view_as(logits)
        mean = (odds * change).sum(2, keepdim=True)
        curvature = (odds * (change - mean).square_()).sum((0, 2)) / images
        curvature = curvature + (2 * decay * direction.square()).sum((0, 2))
        length = (-(gradient * direction).sum((0, 2)) / curvature.clamp(min=1e-12))[:, None]
        weights, logits = weights + length * direction, logits + length * change
    return weights, excess.max().item()


def principal(features: Tensor) -> tuple[Tensor, Tensor]:
    """[N, D] centred -> variances [R] along the principal axes and the axes [D, R], R at most the smaller of both.

    In double precision: where many features are dead, LAPACK's single one now and then does not converge.
    """
    images, width = features.shape
    device = "cpu" if features.device.type == "mps" else features.device  # mps has no doubles
    if images < width:  # no image lies outside of their span, and then neither do the weights
        exact = features.to(device, torch.float64)
        squares, along = torch.linalg.eigh(exact @ exact.T)
        real = squares > ROUNDING * squares[-1]  # the others are no axes of the images, but of what was rounded
        squares, along = squares[real], along[:, real]
        variances, axes = squares / images, exact.T @ along / squares.sqrt()
    else:
        variances, axes = torch.linalg.eigh((features.T @ features / images).to(device, torch.float64))
    return variances.to(features), axes.to(features)
