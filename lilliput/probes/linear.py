"""Linear probe: multinomial logistic regression on frozen features; the judge of the study that we follow.

Protocol after Zhang, Isola, Efros, ECCV 2016, section 3.2. Solved to its optimum, which is one point: a judge without
steps, rates or luck: Nocedal, Wright, "Numerical Optimization", 2006, section 5.2 (Polak-Ribière conjugate gradients).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.features import Exam, score
from lilliput.progress import say

DECAYS = (3e-4, 2e-3, 1e-2, 5e-2)


def linear(exam: Exam, *, steps: int = 200, tolerance: float = 1e-4):
    """Fit on nine tenths of the labelled images, choose the weight decay on the held-out tenth, report on test."""
    features, labels = exam.train_features[exam.fit], exam.train_labels[exam.fit]
    mean, std = features.mean(0), features.std(0)
    std = torch.where(std > 0, std, 1.0)  # however small: an untrained network may speak very softly
    weights, biases, left = fit((features - mean) / std, labels, len(exam.classes), steps=steps, tolerance=tolerance)
    if not left <= tolerance:  # not a number neither
        say(f"{exam.label}: the linear probe has not converged in {steps} steps ({left:.1g} above {tolerance:.1g})")

    def predict(features: Tensor) -> Tensor:
        columns = (features - mean) / std @ weights.flatten(1)
        return (columns.unflatten(1, biases.shape) + biases).argmax(2)  # [N, K]

    held_out = predict(exam.train_features[exam.held_out])
    best = (held_out == exam.train_labels[exam.held_out, None]).float().mean(0).argmax()
    yield from score(predict(exam.test_features)[:, best], exam, held_out[:, best])


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
    flat = features.new_zeros(width, count, classes)
    prior = truth.mean(0).clamp(min=0.5 / images).log().expand(count, classes)
    covariance = features.T @ features / images
    if not covariance.isfinite().all():
        return flat, prior, torch.nan
    variances, axes = torch.linalg.eigh(covariance)
    turned = torch.cat([features @ axes, features.new_ones(images, 1)], dim=1)  # a bias is the weight of a 1
    decay = torch.tensor(DECAYS, device=features.device).expand(width, -1)
    decay = torch.cat([decay, decay.new_zeros(1, count)])[..., None]  # [D + 1, K, 1]
    scale = 1 / (torch.cat([variances.clamp(min=0), variances.new_ones(1)])[:, None, None] / classes + 2 * decay)

    at = torch.cat([flat, prior[None]])
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
    return (axes @ at[:-1].flatten(1)).view_as(flat), at[-1], above.max().item()
