"""A classifier's mistakes as a text, and of several seeds the share that is right on each image."""

import numpy as np
import pandas as pd
import pytest

from lilliput.errors import BadData
from lilliput.studies import mistakes
from tests.studies.conftest import row


@pytest.mark.parametrize("classes", [2, 10, 1000, 70_000])
def test_mistakes_are_read_as_written(classes):
    draw = np.random.default_rng(0)
    taken, truth = draw.integers(0, classes, (2, 500))
    taken[:300] = truth[:300]
    wrong = mistakes.read(mistakes.written(taken, truth))
    assert ((wrong == 0) == (taken == truth)).all()
    assert (wrong[wrong > 0] - 1 == taken[wrong > 0]).all()


def test_mistakes_on_8000_images_are_a_few_kilobytes():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 10, 8000)
    taken = np.where(draw.random(8000) < 0.5, truth, draw.integers(0, 10, 8000))
    assert len(mistakes.written(taken, truth)) < 5000


@pytest.mark.parametrize("text", ["", "!", "AAAA", "é"])
def test_what_was_never_written_is_refused(text):
    with pytest.raises(BadData, match="not what was written"):
        mistakes.read(text)


def test_shares_right_are_means_over_seeds_at_the_epoch_of_each():
    truth = np.array([0, 1, 2])
    texts = {(0, 5): [0, 1, 2], (0, 9): [1, 1, 1], (1, 5): [2, 2, 2], (1, 9): [2, 1, 0]}
    rows = pd.DataFrame(
        [row(seed=s, epoch=e, mistakes=mistakes.written(np.array(t), truth)) for (s, e), t in texts.items()]
    )
    picked = rows[rows.epoch == 5]
    assert mistakes.shares_right(rows, picked, pd.Series([5.0, 9.0])).tolist() == [0.5, 1, 0.5]
    assert mistakes.shares_right(rows, picked, pd.Series([5.0, 10.0])) is None
    rows.loc[0, "mistakes"] = ""
    assert mistakes.shares_right(rows, picked, pd.Series([5.0, 9.0])) is None
