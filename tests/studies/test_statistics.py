"""Choices of a checkpoint as worked by hand, intervals as scipy has them."""

import math

import numpy as np
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


def test_the_interval_of_an_accuracy_adds_the_test_images_to_the_seeds():
    low, high = statistics.wilson(50, 100)
    images, spread = ((high - low) / 2 / 1.959964) ** 2, 0.1**2  # .4 and .6: a variance of .02, over two seeds
    (mean,) = statistics.accuracies([[0.4, 0.6]], 100)
    assert mean.variance == pytest.approx(images + spread)
    assert mean.degrees == pytest.approx((images + spread) ** 2 / spread**2)
    assert mean.half == pytest.approx(stats.t.ppf(0.975, mean.degrees) * math.sqrt(images + spread))
    low, high = statistics.wilson(40, 100)
    assert statistics.accuracy_interval([0.4], 100) == (0.4, pytest.approx((high - low) / 2))
    assert statistics.accuracy_interval([0.4], None) == (0.4, None)
    assert statistics.accuracy_interval([0.4, 0.6], None) == pytest.approx(statistics.interval([0.4, 0.6]))


def test_a_cells_spread_is_that_of_all_cells_unless_its_own_is_larger():
    calm, wild = statistics.accuracies([[0.5, 0.5, 0.5], [0.2, 0.4, 0.6]], None)
    assert calm.variance == pytest.approx(0.02 / 3) and wild.variance == pytest.approx(0.04 / 3)
    assert calm.degrees == wild.degrees == pytest.approx(4)


def test_a_cell_of_one_seed_is_no_surer_than_one_of_three():
    three, once = statistics.accuracies([[0.4, 0.5, 0.6], [0.5]], 1000)
    images = three.variance - 0.01 / 3
    assert once.variance == pytest.approx(0.01 + images) and once.seeds == pytest.approx((0.01, 2))
    assert statistics.accuracies([[0.4], [0.5]], 1000)[1].variance == pytest.approx(images)  # none tells of the spread
    assert statistics.accuracies([[0.4, 0.6], [0.5]], None)[1].half > statistics.accuracies([[0.4, 0.6]], None)[0].half


def test_a_difference_is_welchs():
    one, two = [0.5, 0.52, 0.57], [0.40, 0.49, 0.47]
    means = [statistics.Mean(sum(v) / 3, stats.sem(v) ** 2, 2) for v in (one, two)]
    gap = statistics.difference(*means)
    expected = stats.ttest_ind(one, two, equal_var=False)
    assert gap.degrees == pytest.approx(expected.df)
    assert statistics.chance_of(gap) == pytest.approx(expected.pvalue)


def test_holm_is_that_worked_by_hand():
    assert statistics.holm([0.02, 0.04, 0.012, math.nan]) == [True, True, True, False]  # .012 < .05/3, .02 < .05/2
    assert statistics.holm([0.03, 0.04, 0.012]) == [False, False, True]


@pytest.mark.parametrize(("cells", "bound"), [(25, 2.694), (15, 2.546), (5, 2.160), (2, 1.645)])
def test_the_bound_of_the_comparisons_with_the_best_is_that_of_tables(cells, bound):
    assert statistics.critical(statistics.best_within, cells) == pytest.approx(bound, abs=1e-3)


@pytest.mark.parametrize(("cells", "degrees"), [(25, math.inf), (5, 10), (25, 50), (3, 2.5)])
def test_the_bound_of_the_range_is_that_of_scipy(cells, degrees):
    expected = stats.studentized_range.ppf(0.95, cells, min(degrees, 1e6)) / math.sqrt(2)
    assert statistics.critical(statistics.range_within, cells, degrees) == pytest.approx(expected, rel=1e-4)


STUDIES = 200
TRUTHS = [(1, 0.0, 1000), (3, 0.03, 8000), (3, 0.03, None)]  # seeds, their spread, test images


def simulated(truth, seeds, spread, images, draw):
    """A study of cells whose true accuracies are known."""
    truth = np.asarray(truth)[:, None] + spread * draw.standard_normal((len(truth), seeds))
    judged = truth if images is None else draw.binomial(images, truth) / images
    return statistics.accuracies(judged, images)


def simulated_by_image(truth, seeds, spread, images, draw):
    """As `simulated`, of images of which some are hard for all cells: then these are right on much the same ones."""
    difficulty = draw.standard_normal(images) * 2
    level = np.log(truth / (1 - np.asarray(truth)))[:, None] * 1.6  # a spread of 2 draws shares towards one half
    level = level + 7 * spread * draw.standard_normal((len(truth), seeds))
    odds = level[:, :, None] + difficulty
    right = draw.random(odds.shape) < 1 / (1 + np.exp(-odds))
    return statistics.accuracies(right.mean(2), images, list(right.mean(1)))


def most(rate, studies):
    """What a rate may come to in so many studies, in all but one of 1000."""
    return stats.binom.ppf(0.999, studies, rate)


@pytest.mark.parametrize("cells", [2, 3, 10])
def test_the_interval_of_a_difference_of_cells_of_three_seeds_holds_the_true_one(cells):
    """It held 92 % of those of two cells: their common spread counted as known twice as well."""
    draw = np.random.default_rng(7)
    pairs = [simulated([0.5] * cells, 3, 0.02, None, draw)[:2] for _ in range(1000)]
    hits = sum(abs(gap.value) <= gap.half for gap in (statistics.difference(*pair) for pair in pairs))
    assert hits >= stats.binom.ppf(0.01, 1000, 0.95)


def test_the_spread_that_two_cells_share_is_no_surer_for_being_used_twice():
    means = statistics.accuracies([[0.4, 0.5, 0.6], [0.3, 0.4, 0.5]], None)
    gap = statistics.difference(*means)
    expected = stats.ttest_ind([0.4, 0.5, 0.6], [0.3, 0.4, 0.5])  # of equal spreads: Student's
    assert (gap.degrees, statistics.chance_of(gap)) == (4, pytest.approx(expected.pvalue))


@pytest.mark.parametrize(("seeds", "spread", "images"), TRUTHS)
def test_of_equal_cells_none_is_called_worse_in_95_of_100_studies(seeds, spread, images):
    """The best of 25 beside each other cell, as if it had been named before: 96 % of studies called some cell worse."""
    draw = np.random.default_rng(0)
    studies = [simulated([0.5] * 25, seeds, spread, images, draw) for _ in range(STUDIES)]
    assert sum(any(statistics.worse(means)) for means in studies) <= most(0.05, STUDIES)


@pytest.mark.parametrize(("seeds", "spread", "images"), TRUTHS)
@pytest.mark.parametrize("lead", [1e-9, 0.02])
def test_the_truly_best_is_among_those_that_may_be_it_in_95_of_100_studies(lead, seeds, spread, images):
    """It was shut out in 23 % of studies."""
    draw = np.random.default_rng(1)
    studies = [simulated([0.5 + lead] + [0.5] * 24, seeds, spread, images, draw) for _ in range(STUDIES)]
    assert sum(not statistics.may_be_best(means)[0] for means in studies) <= most(0.05, STUDIES)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.01)])
def test_image_by_image_the_levels_hold_and_more_is_told_apart(seeds, spread):
    draw = np.random.default_rng(4)
    equal = [simulated_by_image([0.5] * 15, seeds, spread, 1000, draw) for _ in range(STUDIES)]
    assert sum(any(statistics.worse(means)) for means in equal) <= most(0.05, STUDIES)
    assert sum(not statistics.may_be_best(means)[0] for means in equal) <= most(0.05, STUDIES)
    apart = [simulated_by_image([0.54, 0.5], seeds, spread, 1000, draw) for _ in range(STUDIES)]
    paired = sum(statistics.worse(means)[1] for means in apart)
    alone = sum(statistics.worse([mean._replace(right=None) for mean in means])[1] for means in apart)
    assert paired > 1.2 * alone, (paired, alone)


def test_a_paired_difference_is_that_of_mcnemar_worked_by_hand():
    one, two = np.array([1.0] * 60 + [1] * 25 + [0] * 15), np.array([1.0] * 60 + [0] * 25 + [1] * 15)
    means = [statistics.Mean(mean.mean(), 0.1, math.inf, (0.0, math.inf), mean) for mean in (one, two)]
    gap = statistics.difference(*means)  # 25 and 15 of 100 disagree
    assert gap.value == pytest.approx(0.10) and gap.variance == pytest.approx((40 + 1 - 10**2 / 100) / 100**2)
    assert statistics.difference(means[0], means[0]).variance == pytest.approx(1 / 100**2)
    assert statistics.difference(means[0], means[1]._replace(right=two[:99])).variance == pytest.approx(0.2)
    seeds = [mean._replace(seeds=(0.01, 4)) for mean in means]
    assert statistics.difference(*seeds).variance == pytest.approx(0.02 + 40 / 100**2)


def test_what_is_worse_by_much_is_called_so_and_cannot_be_the_best():
    means = simulated([0.7, 0.5, 0.3], 3, 0.01, 2000, np.random.default_rng(2))
    assert statistics.worse(means) == [False, True, True]
    assert statistics.may_be_best(means) == [True, False, False]


def test_the_interval_of_a_rank_correlation_holds_the_true_one():
    draw, hits = np.random.default_rng(3), 0
    true = 6 / math.pi * math.asin(0.5 / 2)  # of normal pairs with a correlation of .5
    for _ in range(400):
        first = draw.standard_normal(25)
        second = 0.5 * first + math.sqrt(0.75) * draw.standard_normal(25)
        low, high = statistics.spearman_interval(stats.spearmanr(first, second).statistic, 25)
        hits += low <= true <= high
    assert stats.binom.ppf(0.001, 400, 0.95) <= hits < 400
    assert statistics.spearman_interval(1.0, 3) == (-1.0, 1.0)
    low, high = statistics.spearman_interval(1.0, 5)
    assert low < 0.3 and high == 1.0


def test_the_rank_correlation_is_that_of_scipy_and_unknown_where_a_side_does_not_vary():
    first, second = pd.Series([0.1, 0.4, 0.4, 0.2]), pd.Series([3.0, 1.0, 2.0, 2.0])
    assert statistics.spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert math.isnan(statistics.spearman(first, first * 0)) and math.isnan(statistics.spearman(first[:1], second[:1]))


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (3, 10), (4000, 8000), (10, 10)])
def test_the_binomial_interval_is_that_of_scipy(successes, total):
    expected = stats.binomtest(successes, total).proportion_ci(method="wilson")
    assert statistics.wilson(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-6)
