"""Calibration, on chances whose errors are known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lilliput.probes import LabelledExam
from lilliput.probes.calibration import calibration, calibration_error, error_by_chance, temperature
from lilliput.probes.linear import fitted
from lilliput.studies.judge import Pixels
from tests.conftest import CPU, rng


def drawn(chances, seed=0):
    """A class for each image, by its chances."""
    return torch.multinomial(chances, 1, generator=rng(seed)).squeeze(1)


def test_a_perfectly_calibrated_classifier_has_no_error_beyond_chance():
    chances = torch.tensor([[0.75, 0.25], [0.6, 0.4]]).repeat_interleave(20, 0)
    truth = torch.tensor(([0] * 15 + [1] * 5) + ([0] * 12 + [1] * 8))  # right as often as sure: 15 and 12 of 20
    assert calibration_error(chances, truth) == pytest.approx(0, abs=1e-6)
    many = (2 * torch.randn(4000, 5, generator=rng(1))).softmax(1)
    found = [calibration_error(many, drawn(many, seed)) for seed in range(40)]
    assert np.mean(found) == pytest.approx(error_by_chance(many), rel=0.1) and 0.005 < np.mean(found) < 0.03


def test_a_classifier_that_is_always_sure_and_half_wrong_has_an_error_of_a_half():
    chances = torch.tensor([[1.0, 0.0]]).expand(10, -1)
    truth = torch.arange(10) % 2
    assert calibration_error(chances, truth) == 0.5 and error_by_chance(chances) == 0


def test_the_error_is_the_papers_sum_over_bins():
    chances = (3 * torch.randn(300, 4, generator=rng(2))).softmax(1)
    truth = torch.randint(0, 4, (300,), generator=rng(3))
    confidence, guess = (part.numpy() for part in chances.max(1))
    total = 0.0
    for m in range(1, 16):  # equation 3: sum |B_m| / n |acc(B_m) - conf(B_m)|
        own = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if own.any():
            total += own.sum() / 300 * abs((guess[own] == truth.numpy()[own]).mean() - confidence[own].mean())
    assert calibration_error(chances, truth) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0])
def test_the_temperature_finds_by_how_much_calibrated_scores_were_scaled(scale):
    scores = 2 * torch.randn(20000, 6, generator=rng(4))
    truth = drawn(scores.softmax(1), 5)
    assert temperature(scale * scores, truth) == pytest.approx(scale, rel=0.03)


def test_no_other_temperature_has_a_smaller_cross_entropy():
    scores, truth = torch.randn(200, 3, generator=rng(6)), torch.randint(0, 3, (200,), generator=rng(7))
    scores[range(200), truth] += 1
    heat = temperature(scores, truth)
    losses = [F.cross_entropy(scores.double() / t, truth).item() for t in (heat * 0.99, heat, heat * 1.01)]
    assert losses[1] == min(losses)


def test_where_every_image_is_told_the_temperature_stops_at_its_bound():
    assert temperature(torch.eye(4), torch.arange(4)) == pytest.approx(1e-3)
    assert temperature(torch.eye(4), torch.arange(4).roll(1)) == pytest.approx(1e3)


def test_the_figures_are_of_the_linear_probe_and_the_temperature_of_the_held_out_images(scenes):
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
    rows, probe = dict(calibration(exam)), exam.once(fitted)
    scores, truth = probe.classify(exam.test_features), exam.test_labels
    held_out = probe.on_fit(exam.train_features[exam.held_out])
    assert rows["temperature"] == temperature(held_out, exam.train_labels[exam.held_out])
    own = scores.softmax(1)[range(len(truth)), truth]
    assert rows["nll"] == pytest.approx(-own.log().mean().item(), rel=1e-5)
    tempered = (scores / rows["temperature"]).softmax(1)
    assert rows["ece_tempered"] == calibration_error(tempered, truth)
    assert rows["nll_tempered"] == pytest.approx(-math.log(tempered[range(len(truth)), truth].log().mean().exp()))
    assert rows["confidence"] == pytest.approx(scores.softmax(1).max(1).values.mean().item())
