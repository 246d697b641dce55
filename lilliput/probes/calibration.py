"""Calibration: whether the linear probe is as often right as it is sure.

Guo, Pleiss, Sun, Weinberger, ICML 2017, https://arxiv.org/abs/1706.04599, sections 2 (ECE, NLL) and 4.2 (temperature).
"""

import math

import torch.nn.functional as F
from torch import Tensor

from lilliput.probes import LabelledExam
from lilliput.probes.linear import fitted

BINS = 15
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures
HALVINGS = 50  # of the interval that the temperature is in: then it is known to single precision


def calibration(exam: LabelledExam):
    """Of the test images: the expected calibration error (0..1), what it would be by the chance of so many images alone
    for a classifier that is as sure and well calibrated, the negative log-likelihood (nats), and the mean confidence;
    and the first three again, divided by the temperature that suits the held-out images best."""
    scores, truth = exam.once(fitted).classify(exam.test_features), exam.test_labels
    held_out = exam.once(fitted).on_fit(exam.train_features[exam.held_out])
    heat = temperature(held_out, exam.train_labels[exam.held_out])
    yield "temperature", heat
    for suffix, own in (("", scores), ("_tempered", scores / heat)):
        chances = own.softmax(1)
        yield f"ece{suffix}", calibration_error(chances, truth)
        yield f"ece_by_chance{suffix}", error_by_chance(chances)
        yield f"nll{suffix}", F.cross_entropy(own, truth).item()
    yield "confidence", scores.softmax(1).amax(1).mean().item()


def calibration_error(chances: Tensor, truth: Tensor) -> float:
    """Chances [M, C], classes [M] -> the mean over images of |accuracy - mean confidence| of each one's bin.

    Confidences, the largest chances, fall into 15 bins of equal width, closed above.
    """
    confidence, guess = chances.max(1)
    apart = (guess == truth).float() - confidence
    return (_bins(confidence).T @ apart).abs().sum().item() / len(truth)


def error_by_chance(chances: Tensor) -> float:
    """The expected `calibration_error` were every image's class drawn by its chances [M, C].

    A bin's sum is then nearly normal about zero, of the variance sum c (1 - c); |.| of it is sqrt(2 / pi) deviations.
    """
    confidence = chances.amax(1)
    variance = _bins(confidence).T @ (confidence * (1 - confidence))
    return math.sqrt(2 / math.pi) * variance.clamp(min=0).sqrt().sum().item() / len(chances)


def _bins(confidence: Tensor) -> Tensor:
    """[M] -> [M, 15]: 1 in the column of its bin."""
    number = (confidence * BINS).ceil().nan_to_num(1).clamp(1, BINS).long() - 1
    return F.one_hot(number, BINS).to(confidence.dtype)


def temperature(scores: Tensor, truth: Tensor) -> float:
    """Of scores [H, C] and classes [H], the T of 0.001..1000 for which scores / T have the least cross-entropy.

    It is convex in 1 / T, so the sign of its slope tells on which side of a temperature the least one is.
    """
    low, high = COLDEST, HOTTEST
    own = scores.gather(1, truth[:, None]).squeeze(1)
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        expected = ((scores / middle).softmax(1) * scores).sum(1)
        if (expected - own).mean().item() > 0:  # d cross-entropy / d (1 / T): hotter is better
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
