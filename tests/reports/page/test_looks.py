"""The sample that encoders are inspected on."""

import numpy as np

from lilliput.reports.page.looks import spread_by_class


def test_the_sample_has_of_every_class_alike(scenes):
    rows = spread_by_class(scenes.train, 100)
    assert np.bincount(scenes.train.labels[rows]).tolist() == [10] * 10
