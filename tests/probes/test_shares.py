"""Draws of shares of the labelled images: which rows, written out, and the metrics over them by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from lilliput.probes._shares import Accuracies, draw, over_draws

LABELS = np.array([0, 1] * 10 + [2] * 3)


def test_a_draw_has_the_rows_of_its_seed_from_every_class():
    assert draw(LABELS, 0.3, np.random.default_rng(0)).tolist() == [4, 5, 7, 8, 12, 19, 20]
    assert draw(LABELS, 0.01, np.random.default_rng(0)).tolist() == [5, 8, 20]


def test_metrics_over_draws_are_means_and_deviations_of_what_each_draw_teaches():
    fit = np.arange(len(LABELS)) + 100
    exam = SimpleNamespace(seed=0, fit=fit, train=SimpleNamespace(labels=np.concatenate([np.full(100, 7), LABELS])))
    taught = iter([Accuracies(0.5, 0.2), Accuracies(0.7, 0.4), Accuracies(0.9, 0.8)])
    seen = []

    def learned(percent, rows):
        seen.append((percent, rows.tolist()))
        return next(taught)

    metrics = dict(over_draws(exam, {30: 2, 100: 1}, learned))
    assert metrics == {
        "accuracy_30_percent": pytest.approx(0.6),
        "held_out_accuracy_30_percent": pytest.approx(0.3),
        "deviation_30_percent": pytest.approx(0.02**0.5),
        "images_30_percent": 7,
        "accuracy_100_percent": 0.9,
        "held_out_accuracy_100_percent": 0.8,
        "deviation_100_percent": 0,
        "images_100_percent": 23,
    }
    assert [percent for percent, _ in seen] == [30, 30, 100]
    assert seen[0][1] == [104, 105, 107, 108, 112, 119, 120] and seen[1][1] != seen[0][1]
    assert seen[2][1] == fit.tolist()
