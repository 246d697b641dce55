"""Where curves end: intervals that hold as often as they say."""

import math

import numpy as np
import pytest

from lilliput.advice import curves
from lilliput.advice.curves import Seen


def drawn(count, draw, shift=0.0):
    """Readings of 200 held-out images after a quarter of the training, of curves that rise by .05 and by chance."""
    truth = draw.uniform(0.3, 0.6, count)
    ends = truth + 0.05 + shift + draw.normal(0, 0.02, count)
    return [Seen(float(draw.binomial(200, t) / 200), 0.25, 200, float(end)) for t, end in zip(truth, ends, strict=True)]


def holds(seen, learned):
    told = [curves.expected(one.value, one.share, one.images, learned) for one in seen]
    return np.mean([t.low <= one.end <= t.high for t, one in zip(told, seen, strict=True)])


def test_the_interval_holds_nine_in_ten_new_curves():
    draw = np.random.default_rng(0)
    learned = curves.quantiles([curves.residuals(drawn(400, draw))])
    assert holds(drawn(4000, draw), learned) == pytest.approx(0.9, abs=0.04)


def test_a_data_set_that_departs_widens_it_for_all():
    draw = np.random.default_rng(0)
    groups = [curves.residuals(drawn(400, draw, shift)) for shift in (0.0, -0.1)]
    learned = curves.quantiles(groups)
    assert all(holds(drawn(2000, draw, shift), learned) > 0.88 for shift in (0.0, -0.1))
    assert (
        learned["low"] == curves.quantiles(groups[1:])["low"]
        and learned["high"] == curves.quantiles(groups[:1])["high"]
    )


def test_of_too_few_curves_no_interval_is_told():
    told = curves.expected(0.4, 0.5, 100, curves.quantiles([[0.0] * 18]))
    assert (told.low, told.high) == (-math.inf, math.inf)
    assert curves.quantiles([list(map(float, range(19)))])["low"] == 0.0  # of nineteen, the ends themselves


def test_a_unit_is_the_standard_error_at_the_end_and_grows_before_it():
    assert curves.unit(0.5, 1.0, 400) == pytest.approx(0.025, rel=1e-3)
    assert curves.unit(0.5, 0.5, 400) == pytest.approx(math.hypot(0.025, curves.DRIFT), rel=1e-3)
    assert curves.unit(0.0, 1.0, 400) > 0


def test_an_end_is_held_just_where_it_needs_no_wider_interval():
    learned = curves.quantiles([[-3.0] + [0.0] * 30 + [1.0]])
    learned |= {"low": -2.0, "middle": 0.5, "high": 1.5}
    told = curves.expected(0.4, 0.5, 100, learned)
    assert curves.beside(0.4, 0.5, 100, told.low, learned) == pytest.approx(1.0)
    assert curves.beside(0.4, 0.5, 100, told.high, learned) == pytest.approx(1.0)
    far = curves.beside(0.4, 0.5, 100, told.low - 0.05, learned)
    assert far > 1
    assert curves.expected(0.4, 0.5, 100, curves.widened(learned, far)).low == pytest.approx(told.low - 0.05)
