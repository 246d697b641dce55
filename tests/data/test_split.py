"""Labelled images are split with each class on both sides, and copies on one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilliput.data.split import digests_of, split
from lilliput.errors import BadData
from tests.data.conftest import noise, written


def labelled(folder, labels, pixels=None):
    pixels = noise(len(labels)) if pixels is None else pixels
    return written(folder, pixels, labels=np.array(labels), classes=[f"c{label}" for label in range(max(labels) + 1)])


def test_so_much_of_every_class_judges_and_every_image_is_on_one_side(tmp_path):
    store = labelled(tmp_path / "a", [0] * 50 + [1] * 20 + [2] * 5)
    train, test = split(store, 0.2)
    assert np.bincount(test.labels).tolist() == [10, 4, 1]
    assert sorted([*train.rows, *test.rows]) == list(range(75))
    again = split(store, 0.2)
    assert [images.digest for images in again] == [train.digest, test.digest]
    assert not np.array_equal(test.rows[:10], np.arange(10))  # drawn, and not the first


def test_copies_stay_on_one_side_even_between_classes(tmp_path):
    pixels = noise(10)
    rows = np.array([0, 0, 0, 1, 2, 3, 0, 4, 4, 5, 6])
    store = labelled(tmp_path / "a", [0] * 6 + [1] * 5, pixels[rows])
    train, test = split(store, 0.5)
    assert not set(rows[train.rows]) & set(rows[test.rows])


def test_a_class_of_one_image_and_its_copies_is_named(tmp_path):
    pixels = noise(6)[[0, 1, 2, 3, 3, 3]]
    with pytest.raises(BadData, match=r"class 'c1' is too small .* two different images"):
        split(labelled(tmp_path / "a", [0, 0, 0, 1, 1, 1], pixels), 0.2)


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(2, 30), min_size=2, max_size=5), share=st.floats(0.01, 0.99))
def test_every_class_is_learned_and_judged_whatever_the_share(tmp_path_factory, counts, share):
    labels = np.repeat(range(len(counts)), counts).tolist()
    train, test = split(labelled(tmp_path_factory.mktemp("split") / "a", labels), share)
    for images in (train, test):
        assert set(images.labels) == set(range(len(counts)))
    judged = np.bincount(test.labels)
    assert all(abs(judged[label] - share * count) <= 1 for label, count in enumerate(counts))


def test_digests_are_of_the_pixels():
    images = noise(3)
    assert digests_of(images) == digests_of(images.copy()) and len(set(digests_of(images))) == 3
