"""Choices of a checkpoint as worked by hand, intervals as scipy has them."""

import math

import pandas as pd
import pytest
from scipy import stats

from lilliput.studies import statistics
from tests.studies.conftest import frame, rows_of_run


def test_best_last_and_chosen_are_those_worked_by_hand():
    rows = frame(
        rows_of_run({0: 0.99, 5: 0.50, 10: 0.70, 15: 0.60, 20: 0.65}),
        rows_of_run({0: 0.99, 5: 0.40, 10: 0.55, 15: 0.58, 20: 0.58}, metric="held_out_accuracy"),
    )
    (picked,) = statistics.select(rows).to_dict("records")
    assert (picked["best"], picked["best_epoch"]) == (0.70, 10)  # epoch 0 is no checkpoint
    assert (picked["last"], picked["last_epoch"]) == (0.65, 20)
    assert (picked["chosen"], picked["chosen_epoch"]) == (0.60, 15)  # the earlier of the tie


def test_the_order_of_the_rows_does_not_matter_to_the_choice():
    test, held_out = {5: 0.5, 10: 0.6, 15: 0.6}, {5: 0.9, 10: 0.9, 15: 0.1}
    rows = frame(rows_of_run(test), rows_of_run(held_out, metric="held_out_accuracy"))
    (picked,) = statistics.select(rows.iloc[::-1]).to_dict("records")
    assert (picked["best_epoch"], picked["last_epoch"], picked["chosen_epoch"]) == (10, 15, 5)


def test_without_held_out_values_no_checkpoint_is_chosen():
    (picked,) = statistics.select(frame(rows_of_run({5: 0.5, 10: 0.6}))).to_dict("records")
    assert math.isnan(picked["chosen"]) and picked["best"] == 0.6


def test_neighbours_are_chosen_by_their_own_held_out_metric():
    rows = frame(
        rows_of_run({5: 0.3, 10: 0.4}, metric="accuracy_cosine", probe="knn"),
        rows_of_run({5: 0.9, 10: 0.1}, metric="held_out_accuracy_cosine", probe="knn"),
        rows_of_run({5: 0.1, 10: 0.9}, metric="held_out_accuracy_euclidean", probe="knn"),
    )
    (picked,) = statistics.select(rows, probe="knn", metric="accuracy_cosine").to_dict("records")
    assert picked["chosen"] == 0.3


def test_a_baseline_counts_at_epoch_0_and_is_its_own_choice():
    rows = frame(
        rows_of_run({0: 0.377}, technique="pixels", backbone=""), rows_of_run({0: 0.3}, technique="random_init")
    )
    picked = statistics.select(rows).set_index("technique")
    assert picked.loc["pixels", ["best", "last", "chosen"]].tolist() == [0.377] * 3
    assert picked.loc["random_init", "best"] == 0.3


def test_a_seed_that_stopped_early_is_left_out():
    rows = frame(
        rows_of_run({5: 0.1, 10: 0.2}, seed=0),
        rows_of_run({5: 0.1}, seed=1),
        rows_of_run({5: 0.1}, seed=1, technique="byol"),
    )
    kept = statistics.finished(rows)
    assert set(zip(kept.technique, kept.seed, strict=True)) == {("simclr", 0), ("byol", 1)}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 31])
def test_the_interval_is_that_of_scipy(count):
    values = [0.5 + 0.01 * (7 * index % 5) for index in range(count)]
    mean, half = statistics.interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=mean, scale=stats.sem(values))
    assert mean == pytest.approx(sum(values) / count)
    assert half == pytest.approx((high - low) / 2, rel=1e-9)


def test_one_seed_has_no_spread():
    assert statistics.interval([0.4]) == (0.4, None)


def test_the_interval_of_an_accuracy_is_over_seeds_where_there_are_several_else_of_the_test_images():
    assert statistics.accuracy_interval([0.4, 0.6], 100) == statistics.interval([0.4, 0.6])
    low, high = statistics.wilson(40, 100)
    assert statistics.accuracy_interval([0.4], 100) == (0.4, (high - low) / 2)
    assert statistics.accuracy_interval([0.4], None) == (0.4, None)


def test_the_rank_correlation_is_that_of_scipy_and_unknown_where_a_side_does_not_vary():
    first, second = pd.Series([0.1, 0.4, 0.4, 0.2]), pd.Series([3.0, 1.0, 2.0, 2.0])
    assert statistics.spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert math.isnan(statistics.spearman(first, first * 0)) and math.isnan(statistics.spearman(first[:1], second[:1]))


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (3, 10), (4000, 8000), (10, 10)])
def test_the_binomial_interval_is_that_of_scipy(successes, total):
    expected = stats.binomtest(successes, total).proportion_ci(method="wilson")
    assert statistics.wilson(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-6)
