"""The replay on finished studies: what it reads, and that its regrets are those of the rows."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import advice, keep_scores
from benchmarks.advice import Finished, finished, replays, table, verdicts, widening, with_intervals
from lilliput.advice import learned
from lilliput.advice.scores import ELSEWHERE, FREE, LABELS
from lilliput.studies import results

RESULTS = Path(advice.__file__).parents[1] / "results"


def grid(data, ends, *, early=None, **scores):
    """Cells of one backbone that cost a second each, read at half of it and at the end, by whose labels `early` is."""
    rows = [
        {"cell": f"t{n}", "technique": f"t{n}", "backbone": "b", "recipe": "", "share": share, "seconds": 1.0,
         "end": end, "labels": (early or ends)[n] if share < 1 else end,
         **{name: values[n] for name, values in scores.items()}}
        for n, end in enumerate(ends)
        for share in (0.5, 1.0)
    ]  # fmt: skip
    return Finished(data, data, 100, pd.DataFrame(rows))


def replayed(*grids, draws=12):
    return pd.DataFrame(row for one in grids for row in replays(one, grids, draws))


ENDS = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]


def test_labels_that_are_right_find_the_best_of_those_that_the_budget_pays_for():
    found = replayed(grid("one", ENDS), grid("two", ENDS))
    own = found[(found.score == LABELS) & (found.data == "one")]
    assert own[own.budget == 0.5].regret.mean() < own[own.budget == 0.1].regret.mean()
    best_of_six = [0.95 - max(ENDS[int(cell[1:])] for cell in cells) for cells in drawn_at(0.5)]
    assert own[own.budget == 0.5].regret.tolist() == pytest.approx(best_of_six)


def drawn_at(budget):
    """Of nine cells of a second, half of their time pays for six: three seconds to the half, one for two to go on."""
    names = sorted(f"t{n}" for n in range(9))
    seconds = dict.fromkeys(names, 1.0)
    for draw in range(12):
        order = list(np.random.default_rng(draw).permutation(names))
        cells = advice.affordable(order, seconds, [0.5, 1.0], budget * 9)
        assert len(cells) == 6
        yield cells


def test_a_score_that_turns_the_order_round_regrets_more_than_the_lot_and_is_not_trusted():
    right = {"nesum": ENDS, "effective_rank": ENDS[::-1]}
    grids = [grid(name, ENDS, **right) for name in ("one", "two", "three")]
    found = with_intervals(replayed(*grids))
    worth = verdicts(grids, found)
    assert worth["nesum"]["better_than_chance"] and not worth["effective_rank"]["better_than_chance"]
    assert worth["effective_rank"]["gained"] < 0 < worth["nesum"]["gained"]
    assert worth[ELSEWHERE]["better_than_chance"]  # each grid is as the others are
    assert worth["sigreg"] == {"data_sets": 0, "gained": None, "half": None, "better_than_chance": False}
    assert advice.learned(grids, found)["default_score"] in ("nesum", ELSEWHERE)


def test_what_no_row_has_is_said_to_have_none():
    grids = [grid(name, ENDS) for name in ("one", "two")]
    lines = table(grids, with_intervals(replayed(*grids))).splitlines()
    assert [line for line in lines if line.startswith("| sigreg |")] == ["| sigreg |" + " no rows |" * 7]


def test_intervals_are_widened_until_they_hold_nine_in_ten_of_every_data_set_alike():
    rows = pd.DataFrame({"score": LABELS, "data": ["one"] * 8 + ["two"] * 2, "beside": [0.5] * 8 + [0.5, 3.0]})
    assert widening(rows) == 3.0 and widening(rows.assign(beside=0.5)) == 1.0


def test_orders_that_turn_are_counted_and_others_are_not():
    turned = [grid(f"d{n}", [0.2, 0.3], early=[0.3, 0.2]) for n in range(6)]
    (found,) = advice.crossings(turned)
    assert found == {"kind": "technique", "one": "t0", "two": "t1", "crossed": 6, "met": 6}
    assert advice.crossings([grid(f"d{n}", [0.2, 0.3]) for n in range(6)]) == []


def test_the_published_rows_are_read_with_every_score_that_they_have():
    grids = {one.name: one for one in finished(RESULTS)}
    photographs, stl10 = grids["photographs, seed 0"], grids["STL-10, 40 px"]
    assert all(photographs.rows[score].notna().all() for score in FREE)
    assert photographs.rows.cell.nunique() == stl10.rows.cell.nunique() == 25
    assert photographs.images == 72 and stl10.images == 500
    assert all(one.rows.groupby("cell").share.max().eq(1).all() for one in grids.values())


@pytest.mark.heavy  # rows that are added to results/ are learned from by `python -m benchmarks.advice --write`
def test_what_the_package_learned_is_of_these_rows():
    """Curves and standings, which no draw changes; the rest is of the whole replay, a heavy test."""
    grids = list(finished(RESULTS))
    known = learned.learned()
    assert known["grids"] == [one.name for one in grids]
    for kind, values in advice.effects(grids).items():
        assert known["effects"][kind] == pytest.approx(values, abs=1e-4)
    assert known["crossings"] == advice.crossings(grids)


def test_scores_are_kept_beside_the_accuracies_of_their_checkpoint(rotnet_study, scenes):
    options = argparse.Namespace(data=scenes, image_size=None, limit=None)
    first, *rest = keep_scores.scored(rotnet_study, options, known=set())
    assert tuple(first) == keep_scores.COLUMNS and [first["epoch"], *(row["epoch"] for row in rest)] == [1, 2, 3]
    judged = results.read(rotnet_study)
    own = judged[(judged.technique == "rotnet") & (judged.epoch == 1) & (judged.probe == "linear")]
    assert first["held_out_accuracy"] == own.set_index("metric").value["held_out_accuracy"]
    assert first["effective_rank"] >= 1 and first["nesum"] >= 1 and first["loss"] > 0
    known = {("rotnet", "shufflenet_v2", "0", str(epoch)) for epoch in (1, 3)}
    assert [row["epoch"] for row in keep_scores.scored(rotnet_study, options, known)] == [2]


@pytest.mark.heavy
def test_the_whole_replay_gives_what_the_package_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(advice, "FILE", tmp_path / "learned.json")
    monkeypatch.setattr("sys.argv", ["advice", "--results", str(RESULTS), "--write"])
    advice.main()
    again, known = json.loads((tmp_path / "learned.json").read_text()), learned.learned()
    assert again["default_score"] == known["default_score"] and again["crossings"] == known["crossings"]
    for end in ("low", "middle", "high", "widened"):
        assert math.isclose(again["ends"][end], known["ends"][end], abs_tol=0.02)
