"""How many images of each class a balance leaves, counted by hand; which, drawn by a seed; and what is refused."""

import numpy as np
import pytest

from lilliput import api, open_data
from lilliput.data.balance import balance_of, balanced
from lilliput.data.store import Data
from lilliput.errors import BadSetting
from lilliput.system.records import read_json
from tests.conftest import SMALL, labelled_folder
from tests.data.conftest import noise, written

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture
def make(tmp_path):
    """Data with so many training images of each class, which are the pool, and two test images of each."""

    def made(*counts, seed=0):
        labels = {"train": np.random.default_rng(1).permutation(np.repeat([0, 1, 2], counts)), "test": [0, 1, 2] * 2}
        train, test = (
            written(tmp_path / f"{split}{counts}", noise(len(of)), labels=of, classes=CLASSES)
            for split, of in labels.items()
        )
        return Data("bugs", train, train, test)

    return made


def counts(images):
    return np.bincount(images.labels, minlength=3).tolist()


@pytest.mark.parametrize(
    ("there", "words", "left"),
    [
        ((200, 200, 200), "long-tail:100", [200, 20, 2]),  # 200, 200 / 10, 200 / 100
        ((50, 100, 100), "long-tail:4", [50, 50, 25]),  # of the largest class: 100, 50, 25; there are but 50
        ((9, 9, 9), "long-tail:100", [9, 1, 1]),  # 0.9 and 0.09 would be none
        ((9, 7, 8), "long-tail:1", [9, 7, 8]),
        ((5, 3, 9), "equal", [3, 3, 3]),
        ((5, 3, 9), "per-class:2", [2, 2, 2]),
        ((5, 3, 9), "per-class:3", [3, 3, 3]),
    ],
)
def test_as_many_of_each_class_are_left_as_is_said(make, there, words, left):
    data = make(*there)
    thinner = balanced(data, words)
    assert counts(thinner.train) == left and thinner.pool is thinner.train and thinner.test is data.test
    assert thinner.name == "bugs-" + words.replace(":", "-")


def test_an_images_label_stays_its_own_and_the_order_too(make):
    data = make(30, 30, 30)
    rows = balanced(data, "long-tail:9").train.rows
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(balanced(data, "long-tail:9").train.labels, data.train.labels[rows])


def test_which_are_left_is_drawn_by_the_seed_and_known_by_the_digest(make):
    data = make(30, 30, 30)
    digests = {
        (words, seed): balanced(data, words, seed=seed).train.digest
        for words in ("long-tail:9", "equal", "per-class:5", "per-class:6")
        for seed in (0, 1)
    }
    assert digests["per-class:5", 0] == balanced(data, "per-class:5").train.digest
    assert digests["equal", 0] == digests["equal", 1]  # nothing to draw: the classes are equal
    assert len(set(digests.values())) == len(digests) - 1


def test_a_pool_of_other_images_is_balanced_by_its_own_counts(make):
    pool, other = make(6, 4, 8), make(5, 3, 9)
    thinner = balanced(Data("both", pool.pool, other.train, other.test), "equal")
    assert (counts(thinner.pool), counts(thinner.train)) == ([4, 4, 4], [3, 3, 3])


@pytest.mark.parametrize(
    "words",
    [
        *("long-tail", "long-tail:", "long-tail:0.5", "long-tail:nan", "long-tail:inf", "tail:3"),
        *("per-class", "per-class:0", "per-class:2.5", "equal:3", "Equal", ""),
    ],
)
def test_other_words_are_refused(words):
    with pytest.raises(BadSetting, match=f"balance '{words}' is not long-tail:RATIO"):
        balance_of(words)


def test_what_cannot_be_balanced_is_told(make, scenes):
    with pytest.raises(BadSetting, match="per-class:4 wants more than the 3 images of class 'bee'; give 3 or less, or"):
        balanced(make(5, 3, 9), "per-class:4")
    with pytest.raises(BadSetting, match="balance equal needs classes, and the pool of scenes has none"):
        balanced(scenes, "equal")
    with pytest.raises(BadSetting, match="leave --pool out"):
        open_data("scenes", pool="somewhere", balance="equal")
    with pytest.raises(BadSetting, match="balance 'odd' is not"):
        open_data("stl10", balance="odd")  # before anything is fetched


def test_the_limit_is_of_what_the_balance_leaves(tmp_path):
    whole = open_data(labelled_folder(tmp_path), balance="long-tail:4")
    assert (len(whole.pool), np.bincount(whole.train.labels).tolist()) == (25, [20, 5])
    limited = open_data(tmp_path / "labelled", balance="long-tail:4", limit=10)
    assert len(limited.pool) == 10 and limited.train.digest == whole.train.digest and len(limited.test) == 40
    assert set(limited.pool.rows) < set(whole.pool.rows)


def test_runs_and_studies_record_the_balance_and_take_no_other_for_theirs(tmp_path):
    folder = labelled_folder(tmp_path)
    grid = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], "probes": ["knn"], **SMALL, "epochs": 1}
    grid |= {"baselines": []}
    out, failed = api.study(folder, tmp_path / "s", balance="long-tail:4", **grid)
    record = read_json(out / "study.json")
    run = read_json(out / "cells" / "rotnet-shufflenet_v2-0" / "run.json")
    assert not failed and record["data"] == run["data"] == record["judge"] == "folder-labelled-long-tail-4"
    assert (record["pool_images"], record["train_images"], record["test_images"], run["pool_images"]) == (
        25,
        25,
        40,
        25,
    )
    assert api.verify(out, sample=1) and api.verify(out, folder, sample=1)
    for other in (None, "equal"):
        with pytest.raises(BadSetting, match="data is 'folder-labelled-long-tail-4' there and"):
            api.study(folder, out, balance=other, **grid)
