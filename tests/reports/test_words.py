"""Numbers and names as text."""

import math

from lilliput import catalog
from lilliput.reports import words


def test_a_share_has_no_zero_before_its_point():
    assert [words.share(value) for value in (0, 0.25, 1)] == [".000", ".250", "1.000"]
    assert words.share(0.999, 2) == "1.00"  # the figure of confusions once wrote .00


def test_a_count_has_its_unit_and_a_column_may_ask_for_one():
    assert [words.count(value) for value in (12, 3.42e5, 2.22e6, 1.81e9)] == ["12", "342 k", "2.22 M", "1.81 G"]
    assert [words.count(value, smallest_unit="M") for value in (3.42e5, 1.81e9)] == ["0.342 M", "1.81 G"]


def test_a_short_number_keeps_three_digits_without_powers_of_ten():
    assert [words.short(value) for value in (0.0000110, 0.5, 10.4, 6435)] == ["0.0000110", "0.500", "10.4", "6435"]
    assert [words.shortest(value) for value in (0.0000110, 0.5, 10.0, 100)] == ["0.000011", "0.5", "10", "100"]


def test_what_is_not_known_is_a_dash():
    assert words.signed(math.nan) == words.metric_value(None) == words.metric_value(math.nan) == words.ABSENT
    assert words.signed(0.25) == "+0.25" and words.signed(-0.0625, 3) == "-0.062"


def test_a_nested_value_is_one_line_without_what_is_absent():
    assert words.flat({"batch": 64.0, "seeds": [0, 1], "country": None}) == "batch 64, seeds 0, 1"
    assert words.flat(None) == ""


def test_a_technique_is_spelt_as_in_the_paper_and_others_in_words():
    assert [words.title(name) for name in ("moco_v2", "random_init", "my_pairs")] == [
        "MoCo v2",
        "random init",
        "my pairs",
    ]


def test_a_technique_that_the_paper_lacks_is_spelt_as_its_file_begins():
    names = ("barlow_twins", "moco_v1", "swav", "context_prediction", "vicreg")
    assert [words.title(name) for name in names] == ["Barlow Twins", "MoCo v1", "SwAV", "Context prediction", "VICReg"]
    for name in catalog.names("techniques"):
        assert words.spelt(name) and len(words.spelt(name)) < 20, name
    assert words.spelt("random_init") is None and words.spelt("my_pairs") is None
