"""The search: who trains how far, within which time; and the answer to it."""

import json
import math

import pytest

from lilliput.advice import answer, scores
from lilliput.advice.answer import advice, in_words
from lilliput.advice.learned import learned
from lilliput.errors import BadSetting

RATES = [0.01, 0.02, 0.05, 0.03]  # of rotnet, simclr on shufflenet_v2; rotnet, simclr on squeezenet
FIRST, LAST = "rotnet-squeezenet-0", "simclr-squeezenet-0"


def test_the_rungs_train_the_best_third_on_and_the_pick_is_compared(acted):
    search, actor, clock = acted(RATES, budget=18)
    search.run()
    (all_four, two, then), compared = actor.calls[:3], actor.calls[-1]
    assert (len(all_four[0]), all_four[1:]) == (4, (2, ()))
    assert (set(two[0]), two[1:]) == ({FIRST, LAST}, (6, ()))
    assert then == compared == ([FIRST], 6, ("pixels", "random_init", "supervised", "imagenet"))
    assert search.ranking()[0].name == FIRST and clock.now - 1000 == 4 * 2 + 2 * 4


def test_what_is_left_of_the_time_goes_to_who_was_dropped_last(acted):
    search, actor, clock = acted(RATES, budget=26)
    search.run()
    assert actor.calls[2][:2] == (["simclr-shufflenet_v2-0"], 6)
    assert clock.now - 1000 <= 26
    assert [search.reached(cell) for cell in search.ranking()] == [6, 6, 6, 4]


def test_what_the_baselines_left_of_their_share_goes_to_those_that_they_are_compared_with(acted):
    search, actor, clock = acted([0.05, 0.02, 0.01, 0.03], budget=24, afterwards=8.0)  # nothing is left before them
    search.run()
    assert actor.calls[-2][2] == ("pixels", "random_init", "supervised", "imagenet")
    assert actor.calls[-1] == (["simclr-shufflenet_v2-0"], 6, ()) and clock.now - 1000 == 20
    assert search.reached(search.cells["rotnet-squeezenet-0"]) == 2


def test_the_clock_pauses_what_it_breaks_off_and_a_rung_that_is_not_whole_drops_nobody(acted):
    search, actor, clock = acted(RATES, budget=7, seconds=1.0)  # five for training, two for the baselines
    search.run()
    assert clock.now - 1000 == 5 and actor.calls[1][1] != 6
    reached = {cell.name: search.reached(cell) for cell in search.cells.values()}
    assert sorted(reached.values()) == [0, 1, 2, 2]
    assert search.ranking()[0].name in {name for name, epoch in reached.items() if epoch == 2}


def test_a_search_goes_on_from_what_is_there(acted):
    search, actor, clock = acted(RATES, budget=7)
    search.run()
    done, search.moment = len(actor.calls), clock.now + 100
    search.run()
    assert actor.calls[done][1] == 2 and search.ranking()[0].name == FIRST
    assert clock.now - 1000 == 4 * 6  # nothing was trained twice


def test_a_candidate_that_fails_costs_no_other_and_is_never_the_pick(acted):
    search, _actor, _ = acted(RATES, budget=100, fails=(FIRST,))
    search.run()
    assert search.ranking()[0].name == LAST
    assert advice(search)["pick"]["technique"] == "simclr"
    assert all(
        cell["backbone"] != "squeezenet" or cell["technique"] != "rotnet" for cell in advice(search)["candidates"]
    )


def test_of_those_that_went_on_the_expected_accuracy_counts_and_not_who_came_furthest(acted):
    """It was who came furthest: where the clock broke the better one off, the worse one was picked."""
    starts_well = lambda epoch: min(0.12, 0.06 * epoch)  # noqa: E731
    search, _, _ = acted(
        [0.01, 0.02, starts_well, 0.05], budget=15, afterwards=0
    )  # who leads trains first; time is for 15 epochs
    search.run()
    reached = {cell.name: search.judged_at(cell) for cell in search.cells.values()}
    assert reached[FIRST] == 6 and reached[LAST] == 4
    assert [cell.name for cell in search.ranking()][:2] == [LAST, FIRST]


def test_who_passed_a_rung_and_was_paused_before_its_next_checkpoint_is_not_among_the_dropped(acted):
    falls = {0: 0.0, 2: 0.12, 4: 0.06, 6: 0.02}.get
    search, _, _ = acted([0.01, 0.02, falls, 0.059], budget=13, afterwards=0)  # time for 13 epochs
    search.run()
    paused = search.cells[LAST]
    assert (search.reached(paused), search.judged_at(paused)) == (3, 2)
    assert [cell.name for cell in search.ranking()][:2] == [LAST, FIRST]  # more is expected of it than the pick has


def test_what_is_surely_better_than_the_pick_is_said_in_a_line_of_its_own():
    gap = {"accuracy": 0.6, "pick_is_better_by": -0.2, "half": 0.05}
    unsure = {"accuracy": 0.6, "pick_is_better_by": -0.02, "half": 0.05}
    assert answer._what_is_better({"supervised": gap, "pixels": unsure}) == [
        "But better than the pick: supervised from scratch; see below."
    ]
    assert answer._what_is_better({"imagenet": unsure}) == [] == answer._what_is_better({})


def test_no_test_image_chooses(acted, monkeypatch):
    """The pick is the same whatever the test accuracies are."""
    search, _actor, _ = acted(RATES, budget=100)
    search.run()
    rows = search.rows
    rows.loc[rows.metric == "accuracy", "value"] = 1 - rows.value
    monkeypatch.setattr(type(search), "rows", rows)
    assert search.ranking()[0].name == FIRST


def test_the_answer_is_json_and_its_words_say_all_of_it(acted):
    search, _, _ = acted(RATES, budget=26)
    search.run()
    found = json.loads(json.dumps(advice(search), allow_nan=False))
    pick = found["pick"]
    assert (pick["technique"], pick["backbone"], pick["epoch"], pick["best_epoch"]) == ("rotnet", "squeezenet", 6, 6)
    assert pick["expected"]["low"] < pick["held_out"]["6"] < pick["expected"]["high"]
    assert found["runner_up"]["technique"] == "simclr" and 0 < found["runner_up"]["chance_better"] < 0.5
    assert found["against"]["supervised"]["pick_is_better_by"] == pytest.approx(0.5 - 0.25)
    words = in_words(found)
    for said in (
        "Pick rotnet on squeezenet",
        "not before epoch 6",
        "Runner-up: simclr",
        "Twice the budget",
        "100 test images",
    ):
        assert said in words
    assert "supervised from scratch (0.250): +0.250" in words and "How wrong this may be" in words


def test_the_loss_of_a_wrong_pick_is_the_mean_of_what_is_above_zero(acted):
    search, _, _ = acted([0.03, 0.02, 0.05, 0.05], budget=18)
    search.run()
    second = advice(search)["runner_up"]  # as good as the pick
    sigma = math.hypot(*(2 * [(second["expected"]["high"] - second["expected"]["low"]) / answer.SIGMAS]))
    assert second["chance_better"] == pytest.approx(0.5)
    assert second["loss_if_better"] == pytest.approx(sigma * math.sqrt(2 / math.pi))  # of a half-normal


def test_a_warning_names_who_is_known_to_change_places(acted, monkeypatch):
    known = {"kind": "technique", "one": "rotnet", "two": "simclr", "crossed": 4, "met": 9}
    monkeypatch.setattr(answer, "learned", lambda: {**learned(), "crossings": [known]})
    search, _, _ = acted(RATES, budget=18)
    search.run()
    found = advice(search)
    assert [crossing["with"] for crossing in found["known_to_cross"]] == [LAST]  # not those on another backbone
    assert "changed places between an early look and the end 4 of 9 times" in in_words(found)


def test_without_labels_a_score_that_is_no_better_than_chance_is_not_the_default(monkeypatch):
    assert scores.usual_score(True, None) == "labels"
    default = learned()["default_score"]
    assert default is None or learned()["scores"][default]["better_than_chance"]
    monkeypatch.setattr(scores, "learned", lambda: {**learned(), "default_score": None})
    with pytest.raises(BadSetting, match=r"no score is known to choose better than chance .* --judge"):
        scores.usual_score(False, None)
    assert scores.usual_score(False, "nesum") == "nesum"
    with pytest.raises(BadSetting, match="no labels to choose by"):
        scores.usual_score(False, "labels")
    with pytest.raises(BadSetting, match="'luck' is none of labels"):
        scores.usual_score(True, "luck")


def test_doubts_of_a_score_are_those_of_the_replay():
    for name, verdict in learned()["scores"].items():
        assert (scores.doubts(name) is None) == verdict["better_than_chance"]
    assert scores.doubts("labels") is None
