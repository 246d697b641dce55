"""Successive halving: who goes on, and when it is asked."""

import math

import pytest

from lilliput.advice.halving import Rung, halve, rungs_of


def searched(count, score):
    names, trained = [f"c{number}" for number in range(count)], []
    winner = halve(names, rungs_of(count, 2), lambda rung, epoch: trained.append((epoch, sorted(rung))), score)
    return winner, trained


def test_the_best_third_goes_on_and_the_best_at_the_end_wins():
    values = {2: [5, 1, 9, 4, 8, 3, 7, 2, 6], 6: [0, 0, 1, 0, 3, 0, 2, 0, 0], 18: [0, 0, 0, 0, 9, 0, 0, 0, 0]}
    winner, trained = searched(9, lambda name, epoch: values[epoch][int(name[1:])])
    assert winner == "c4"
    assert trained == [(2, [f"c{n}" for n in range(9)]), (6, ["c2", "c4", "c6"]), (18, ["c4"])]


@pytest.mark.parametrize("count", [1, 2, 4, 25, 30])
def test_the_rungs_that_are_told_before_are_those_that_are_trained(count):
    _, trained = searched(count, lambda name, epoch: int(name[1:]))
    assert [Rung(epoch, len(names)) for epoch, names in trained] == rungs_of(count, 2)
    assert trained[-1][0] == rungs_of(count, 2)[-1].epoch


def test_a_whole_rung_is_trained_before_any_of_it_is_scored():
    told = []
    halve(
        ["a", "b", "c"], rungs_of(3, 1), lambda names, epoch: told.append(epoch), lambda *asked: told.append("?") or 0
    )
    assert told == [1, "?", "?", "?", 3, "?"]


def test_who_leads_is_trained_first_after_the_first_rung():
    told = []
    values = {"a": 1, "b": 9, "c": 7, "d": 8, "e": 2, "f": 3}
    halve(list("abcdef"), rungs_of(6, 1), lambda names, epoch: told.append(names), lambda name, _: values[name])
    assert told == [list("abcdef"), ["b", "d"]]


def test_a_ladder_of_one_rung_has_checkpoints_before_its_end():
    assert rungs_of(2, 5) == [Rung(20, 2)] and rungs_of(3, 5) == [Rung(5, 3), Rung(15, 1)]


def test_a_candidate_without_a_score_never_goes_on():
    winner, trained = searched(3, lambda name, epoch: math.nan if name == "c2" else int(name[1:]))
    assert winner == "c1" and trained[-1] == (6, ["c1"])


def test_what_training_raises_ends_the_search():
    def over(names, epoch):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        halve(["a", "b"], rungs_of(2, 1), over, lambda name, epoch: 0)
