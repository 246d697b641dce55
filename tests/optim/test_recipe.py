"""Schedules worked by hand; settings that are refused."""

import pytest
from torch import nn

from lilliput.errors import BadSetting
from tests.optim.conftest import recipe

BARE_AND_NORMED = nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_the_rate_grows_with_the_batch_where_it_is_given_per_256_images():
    assert recipe().peak_rate == 0.2
    assert recipe(lr_per_256=False).peak_rate == 0.4


def test_a_cosine_starts_at_the_peak_is_half_in_the_middle_and_ends_at_zero():
    r = recipe()
    assert r.rate(0.0) == pytest.approx(0.2)
    assert r.rate(0.5) == pytest.approx(0.1)
    assert r.rate(1.0) == pytest.approx(0.0)
    assert r.rate(1 / 3) == pytest.approx(0.2 * 0.75)  # (1 + cos 60 deg) / 2


def test_a_warm_up_is_linear_and_the_cosine_begins_where_it_ends():
    r = recipe(warmup=1)  # of ten epochs
    assert r.rate(0.05) == pytest.approx(0.1)
    assert r.rate(0.1) == pytest.approx(0.2)
    assert r.rate(0.55) == pytest.approx(0.1)
    assert r.rate(1.0) == pytest.approx(0.0)


def test_steps_fall_to_a_fifth_at_30_60_and_80_percent():
    r = recipe(schedule="steps")
    rates = [r.rate(p) for p in (0.0, 0.29, 0.3, 0.59, 0.6, 0.79, 0.8, 0.99)]
    assert rates == pytest.approx([0.2, 0.2, 0.04, 0.04, 0.008, 0.008, 0.0016, 0.0016])


def test_tenths_fall_to_a_tenth_at_60_and_80_percent():
    r = recipe(schedule="tenths")
    rates = [r.rate(p) for p in (0.0, 0.59, 0.6, 0.79, 0.8, 0.99)]
    assert rates == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_a_constant_rate_stays_what_it_is_after_its_warm_up():
    r = recipe(schedule="constant", warmup=1)
    assert [r.rate(p) for p in (0.05, 0.1, 0.5, 1.0)] == pytest.approx([0.1, 0.2, 0.2, 0.2])


def test_unusable_settings_are_refused_by_name():
    for wrong in (
        {"optimiser": "adm"},
        {"schedule": "cosin"},
        {"batch": 1},
        {"epochs": 0},
        {"warmup": 10.0},
        {"warmup": -1},
        {"lr": -1},
        {"vector_rate": -1},
        {"lr": float("nan")},
    ):
        with pytest.raises(BadSetting, match=next(iter(wrong))):
            recipe(**wrong)


def test_a_network_without_normalisation_has_settings_of_its_own_unless_they_are_given():
    bare, normed = BARE_AND_NORMED
    r = recipe(bare={"optimiser": "lamb", "lr": 0.02})
    assert (r.suited(normed).optimiser, r.suited(normed).lr) == ("sgd", 0.4)
    assert (r.suited(bare).optimiser, r.suited(bare).lr, r.suited(bare).weight_decay) == ("lamb", 0.02, 0.1)
    given = r.override(lr=0.3, epochs=None)
    assert (given.suited(normed).lr, given.suited(bare).lr, given.suited(bare).optimiser) == (0.3, 0.3, "lamb")
    assert r.override(optimiser="adamw").suited(bare) == r.override(optimiser="adamw").suited(normed)


PRESETS = {4: {"lr": 0.8, "options": {"tau": 0.97}}, 100: {"lr": 0.1, "weight_decay": 0.2}}


def test_a_warm_up_is_in_epochs_and_shortens_only_where_training_is_shorter_than_the_recipes():
    r = recipe(warmup=2)
    assert [r.override(epochs=n).warmup for n in (1, 5, 10, 40)] == [0.2, 1, 2, 2]
    assert r.override(epochs=5, warmup=3).warmup == 3
    assert r.override(epochs=40).rate(1 / 40) == pytest.approx(0.1)  # half of the warm-up
    with pytest.raises(BadSetting, match="warmup 5 must be shorter than the training of 5 epochs"):
        r.override(epochs=5, warmup=5)


def test_a_preset_is_that_of_the_nearest_length_in_ratio_and_yields_to_what_is_given():
    r = recipe(presets=PRESETS, options={"hidden": 8})  # of ten epochs itself
    assert [r.override(epochs=n).lr for n in (1, 6, 7, 31, 32, 1000)] == [0.8, 0.8, 0.4, 0.4, 0.1, 0.1]
    assert r.override(epochs=4).options == {"hidden": 8, "tau": 0.97}
    assert r.override(epochs=100).weight_decay == 0.2 and r.override().weight_decay == 0.1
    given = r.override(epochs=4, lr=0.3)
    assert (given.lr, given.options["tau"], given.epochs) == (0.3, 0.97, 4)
