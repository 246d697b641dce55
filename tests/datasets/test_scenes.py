"""The synthetic scenes: repeatable, exactly masked, balanced, harder than pixels, coloured as told."""

import subprocess

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lilliput.datasets import scenes
from lilliput.datasets._scenes import helpers
from lilliput.datasets._scenes.helpers import Order, drawn_by_helpers, drawn_here
from lilliput.datasets._scenes.numbered import draw, draw_numbered, label_of
from lilliput.datasets._scenes.outdoors import CANVAS, CLASSES, make_scene, picture
from lilliput.datasets.scenes import prepare
from lilliput.errors import BadSetting

STL10 = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


@pytest.fixture(scope="module")
def drawn():
    """800 pictures at 32 px with masks and labels, at the default tie."""
    return many("train", 800, colour_tie=0.5)


def many(split, count, *, colour_tie):
    pairs = [draw_numbered(3, split, number, image_size=32, colour_tie=colour_tie) for number in range(count)]
    labels = np.array([label_of(3, split, number) for number in range(count)])
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs]), labels


def small(**options):
    return prepare(**({"image_size": 24, "pool_count": 12, "train_count": 20, "test_count": 10} | options))


def test_the_classes_are_those_of_stl10_and_each_can_be_drawn_by_name_and_by_number():
    assert CLASSES == STL10
    for number, name in enumerate(CLASSES):
        image, mask = draw(name, np.random.default_rng(1), image_size=48, colour_tie=0.5)
        again, _ = draw(number, np.random.default_rng(1), image_size=48, colour_tie=0.5)
        assert image.shape == (3, 48, 48) and image.dtype == np.uint8
        assert mask.shape == (48, 48) and set(np.unique(mask)) == {0, 1}
        assert (image == again).all()


def test_the_same_seed_draws_the_same_pictures_and_another_seed_others():
    first, second = small(), small(train_count=21)  # another count, so that it is drawn again
    assert first.train.folder != second.train.folder
    assert (first.train.images[:] == second.train.images[:20]).all()
    assert not (first.train.images[:] == small(seed=1).train.images[:]).all((1, 2, 3)).any()


def test_a_larger_set_starts_with_the_same_pictures_labels_and_masks():
    few, more = small(), small(pool_count=15, train_count=27, test_count=13)
    for one, other in zip(few[1:], more[1:], strict=True):
        assert (one.images[:] == other.images[: len(one)]).all()
        assert (one.masks[:] == other.masks[: len(one)]).all()
        assert not one.is_labelled or (one.labels == other.labels[: len(one)]).all()


def test_processes_draw_what_one_process_draws(monkeypatch):
    monkeypatch.setattr(helpers, "cores", lambda: 3)
    order = Order(5, "test", 20, 24, 0.25)
    for here, helped in zip(drawn_here(order), drawn_by_helpers(order), strict=True):
        assert all((ours == theirs).all() for ours, theirs in zip(here, helped, strict=True))


def test_an_interrupted_drawing_leaves_no_process_behind(monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    pictures = drawn_by_helpers(Order(0, "pool", 10_000, 24, 0.5))
    next(pictures)
    pictures.close()
    assert started and all(process.poll() is not None for process in started)


def test_splits_share_no_picture():
    pool, train, test = small()[1:]
    seen = [image.tobytes() for store in (pool, train, test) for image in store.images]
    assert len(set(seen)) == len(seen)


def test_the_pool_has_no_labels_and_the_others_hold_each_class_equally_often():
    data = small()
    assert not data.pool.is_labelled
    assert data.train.classes == STL10
    assert (np.bincount(data.train.labels) == 2).all()
    assert (np.bincount(data.test.labels) == 1).all()


def test_limit_shortens_the_pool_only():
    data = small(limit=5)
    assert (len(data.pool), len(data.train), len(data.test)) == (5, 20, 10)
    assert (data.pool.images[:] == small().pool.images[:5]).all()


def test_a_second_call_finds_the_stores_without_drawing(monkeypatch):
    first = small()
    monkeypatch.setattr(scenes, "drawn", None)
    second = small()
    assert [store.digest for store in first[1:]] == [store.digest for store in second[1:]]


@pytest.mark.parametrize(
    "option", [{"colour_tie": 1.5}, {"colour_tie": float("nan")}, {"test_count": 0}, {"limit": 0}, {"seed": -1}]
)
def test_a_wrong_setting_is_named_before_anything_is_drawn(option, monkeypatch):
    monkeypatch.setattr(scenes, "drawn", None)
    with pytest.raises(BadSetting, match=next(iter(option))):
        small(**option)


@pytest.mark.parametrize("name", STL10)
def test_taking_the_thing_away_changes_the_pixels_of_its_mask_and_no_others(name):
    changed_inside, inside = 0, 0
    for number in range(6):
        scene = make_scene(name, np.random.default_rng(number), 0.5)
        image, mask = picture(scene, CANVAS)
        bare, _ = picture(scene, CANVAS, with_thing=False)
        changed = (image != bare).any(0)
        assert not (changed & (mask == 0)).any()
        changed_inside += changed.sum()
        inside += mask.sum()
    assert changed_inside / inside > 0.97  # the rest happens to have the colour of what is behind


def test_a_hidden_part_is_not_in_the_mask():
    hidden = 0
    for number in range(20):
        scene = make_scene("car", np.random.default_rng(number), 0.5)
        _, mask = picture(scene, CANVAS)
        front = scene.front.covers
        assert not (mask.astype(bool) & front).any()
        hidden += (scene.thing.covers & front).sum() > 0
    assert hidden >= 3


@pytest.mark.parametrize("size", [96, 64, 48])
def test_a_smaller_picture_is_the_mean_of_the_larger_and_its_mask_the_majority(size):
    large, mask = draw("horse", np.random.default_rng(2), image_size=CANVAS, colour_tie=0.5)
    image, small_mask = draw("horse", np.random.default_rng(2), image_size=size, colour_tie=0.5)
    step = CANVAS // size
    averaged = large.reshape(3, size, step, size, step).mean((2, 4))
    share = mask.reshape(size, step, size, step).mean((1, 3))
    assert np.abs(averaged - image).max() <= 1
    assert (small_mask == (share >= 0.5)).all()


@pytest.mark.parametrize("size", [17, 100, 224])
def test_any_size_can_be_drawn(size):
    image, mask = draw("ship", np.random.default_rng(2), image_size=size, colour_tie=0.5)
    assert image.shape == (3, size, size)
    assert abs(mask.mean() - draw("ship", np.random.default_rng(2), image_size=96, colour_tie=0.5)[1].mean()) < 0.02


def test_things_fill_a_twentieth_to_two_fifths_of_a_picture(drawn):
    share = drawn[1].mean((1, 2))
    assert np.quantile(share, 0.01) > 0.03
    assert share.max() < 0.42
    assert np.quantile(share, 0.9) > 2.5 * np.quantile(share, 0.1)


def test_pictures_differ_in_light_and_no_picture_is_blank(drawn):
    images = drawn[0].astype(float)
    assert images.std((1, 2, 3)).min() > 4
    assert images.mean((1, 2, 3)).std() > 15


def explained(colours: np.ndarray, labels: np.ndarray) -> float:
    """The share of the colours' variance that lies between classes; (classes - 1) / pictures when there is no tie."""
    within = sum(((colours[labels == k] - colours[labels == k].mean(0)) ** 2).sum() for k in range(10))
    return 1 - within / ((colours - colours.mean(0)) ** 2).sum()


def mean_colours(images, masks):
    """Chromaticity of the thing and of the rest [N, 3]: light and dark left aside."""

    def mean(inside):
        sums = (images * inside[:, None]).sum((2, 3)) + 1.0
        return sums / sums.sum(1, keepdims=True)

    return mean(masks.astype(float)), mean(1.0 - masks)


def test_colour_goes_with_class_as_far_as_told():
    thing, rest = {}, {}
    for tie in (0, 1):
        images, masks, labels = many("test", 300, colour_tie=tie)
        thing_colours, rest_colours = mean_colours(images, masks)
        thing[tie], rest[tie] = explained(thing_colours, labels), explained(rest_colours, labels)
    assert thing[0] < 0.12 and rest[0] < 0.08
    assert thing[1] > 0.3 and rest[1] > 0.4


def thumbnails(images, side):
    step = images.shape[-1] // side
    return images.reshape(len(images), 3, side, step, side, step).mean((3, 5)).reshape(len(images), -1) / 255


def test_logistic_regression_on_pixels_beats_chance_and_stays_far_from_solving_it(drawn):
    images, _, labels = drawn
    pixels = thumbnails(images, 8)
    probe = LogisticRegression(C=0.03, max_iter=300).fit(pixels[:600], labels[:600])
    accuracy = probe.score(pixels[600:], labels[600:])
    assert 0.15 < accuracy < 0.42  # chance is 0.1; three standard errors are 0.08
