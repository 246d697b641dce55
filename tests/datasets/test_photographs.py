"""Crops of real photographs: balanced, drawn alike again, and those that judge apart from those that teach."""

import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image

from lilliput.datasets import photographs
from lilliput.errors import BadSetting

FEW = {"image_size": 16, "pool_count": 54, "train_count": 36, "test_count": 36}


def test_every_photograph_has_alike_many_crops_and_the_pool_no_labels():
    data = photographs.prepare(**FEW)
    assert np.bincount(data.train.labels).tolist() == np.bincount(data.test.labels).tolist() == [2] * 18
    assert data.train.classes == list(photographs.PHOTOGRAPHS) and not data.pool.is_labelled
    assert (len(data.pool), data.pool.image_size) == (54, 16)
    assert "CC BY 2.0" in data.pool.manifest["source"]


def test_crops_are_drawn_alike_again_and_a_smaller_set_begins_a_larger_one():
    data, more = photographs.prepare(**FEW), photographs.prepare(**{**FEW, "test_count": 40, "pool_count": 60})
    rows = np.arange(36)
    assert np.array_equal(data.test.batch(rows), more.test.batch(rows))
    assert np.array_equal(data.pool.batch(rows), more.pool.batch(rows))
    assert not np.array_equal(data.train.batch(rows), data.pool.batch(rows))
    assert not np.array_equal(data.test.batch(rows), photographs.prepare(**FEW, seed=1).test.batch(rows))


def test_crops_that_judge_are_of_other_blocks_than_those_that_teach():
    """A photograph that says at each place of which colour its block is."""
    board = np.indices((photographs.SIDE, 2 * photographs.SIDE)).sum(0) * 0
    rows, columns = np.indices(board.shape) // photographs.BLOCK
    noise = default_rng(0).integers(0, 60, board.shape)
    board = np.where((rows + columns) % 2, 255 - noise, noise).astype(np.uint8)
    photograph = Image.fromarray(np.stack([board] * 3, 2))
    for judges, low, high in ((False, 0, 100), (True, 155, 255)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(photographs, "disturbed", lambda pixels, draw: pixels * 255)
            crops = [photographs.crop(photograph, 16, default_rng(number), judges=judges) for number in range(200)]
        means = [crop.mean() for crop in crops]
        assert low <= min(means) and max(means) <= high


def test_light_and_contrast_are_disturbed_and_values_stay_in_range():
    grey = np.full((3, 8, 8), 0.5, np.float32)
    made = np.stack([photographs.disturbed(grey, default_rng(number)) for number in range(300)])
    assert made.dtype == np.uint8 and made.mean((2, 3)).std(0).min() > 15
    assert (made[:, 0] != made[:, 1]).any((1, 2)).mean() > 0.9


def test_what_is_missing_is_named_with_the_way_to_it(monkeypatch):
    monkeypatch.setattr(photographs, "find_spec", lambda library: None)
    with pytest.raises(BadSetting, match=r"scikit-image, .*pip install scikit-image"):
        photographs.prepare(**FEW)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"train_count": 17}, "17 images of train"), ({"limit": 0}, "0 images of pool"), ({"seed": -1}, "seed -1")],
)
def test_too_few_crops_and_a_negative_seed_are_refused(wrong, named):
    with pytest.raises(BadSetting, match=named):
        photographs.prepare(**{**FEW, **wrong})
