"""Robustness, on networks whose weakness is known."""

import numpy as np
import pytest
import torch
from torch import nn

from lilliput.datasets import open_data
from lilliput.images.corrupt import KINDS, corrupt
from lilliput.probes import LabelledExam
from lilliput.probes._features import extract
from lilliput.probes.linear import fitted
from lilliput.probes.robustness import corrupting, robustness
from lilliput.studies.judge import Pixels
from tests.conftest import CPU, labelled_folder


class Remembering(Pixels):
    """Keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return super().forward(images)


class Blind(nn.Module):
    """Sees how images differ from their own mean, in their own deviations: neither light nor contrast."""

    def forward(self, images):
        small = Pixels()(images)
        return (small - small.mean(1, keepdim=True)) / small.std(1, keepdim=True)


def test_the_figures_are_means_of_accuracies_and_what_they_lose(scenes):
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
    rows = dict(robustness(exam))
    by_severity = [rows[f"accuracy_{kind}/{severity}"] for kind in KINDS for severity in (1, 2, 3)]
    assert len(by_severity) == 24 and all(0 <= value <= 1 for value in by_severity)
    assert rows["accuracy_corrupted"] == pytest.approx(np.mean(by_severity))
    assert rows["accuracy_haze"] == pytest.approx(
        np.mean([rows[f"accuracy_haze/{severity}"] for severity in (1, 2, 3)])
    )
    clean = (exam.once(fitted).classify(exam.test_features).argmax(1) == exam.test_labels).float().mean().item()
    assert rows["accuracy_clean"] == pytest.approx(clean)
    assert rows["loss_corrupted"] == pytest.approx(clean - np.mean(by_severity), abs=1e-6)
    assert rows["relative_drop"] == pytest.approx(1 - np.mean(by_severity) / clean, abs=1e-5)
    by_hand = [
        corrupt(exam.test.load([row], "cpu"), "shot_noise", 3, [np.random.default_rng(row)]) for row in range(100)
    ]
    guess = exam.once(fitted).classify(Pixels()(torch.cat(by_hand))).argmax(1)
    assert rows["accuracy_shot_noise/3"] == pytest.approx((guess == exam.test_labels).float().mean().item())


def test_a_network_that_sees_no_contrast_loses_nothing_by_it(scenes):
    rows = dict(robustness(LabelledExam(Blind(), scenes.train, scenes.test, plan=CPU)))
    assert rows["accuracy_clean"] > 0.15 and abs(rows["accuracy_clean"] - rows["accuracy_contrast/3"]) < 0.021


def test_classes_told_by_their_light_are_lost_where_it_changes_and_kept_where_its_mean_stays(tmp_path):
    data = open_data(labelled_folder(tmp_path), image_size=32)
    rows = dict(robustness(LabelledExam(Pixels(), data.train, data.test, plan=CPU)))
    assert rows["accuracy_clean"] == rows["accuracy_contrast/3"] == rows["accuracy_defocus_blur/3"] == 1
    assert rows["accuracy_brightness/3"] == 0.5  # the dark ones, of .25, are taken for light


def test_an_image_is_spoilt_alike_whatever_the_batch_the_seed_and_the_other_images(scenes):
    shown = []
    for rows, batch in ((np.arange(100), 256), (np.arange(100), 7), (np.arange(0, 100, 2), 16)):
        encoder = Remembering()
        images, change = scenes.test.take(rows), corrupting("gaussian_noise", 2, rows)
        extract(encoder, images, plan=CPU, batch=batch, change=change)
        shown.append(torch.cat(encoder.seen))
    assert torch.equal(shown[0], shown[1]) and torch.equal(shown[0][::2], shown[2])


def test_with_fewer_images_they_are_spread_and_their_own_accuracy_stands_beside(scenes):
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU, seed=5)
    rows, again = dict(robustness(exam, most=25)), dict(robustness(exam))
    right = exam.once(fitted).classify(exam.test_features).argmax(1) == exam.test_labels
    assert rows["accuracy_clean"] == pytest.approx(right[::4].float().mean().item())
    assert rows["loss_corrupted_half"] > again["loss_corrupted_half"]
