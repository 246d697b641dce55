"""Advice by real trainings, small ones: its folder is an ordinary study's, with labels and without."""

import shutil

import pytest

from lilliput import api, cli
from lilliput.advice import budget
from lilliput.advice.answer import in_words
from lilliput.advice.halving import Rung
from lilliput.api import advising
from lilliput.data.store import Data
from lilliput.errors import BadSetting
from lilliput.studies import results
from lilliput.system.records import read_json, write_json
from lilliput.training.record import read_log
from tests.conftest import PLAN, labelled_folder

SMALL = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], "device": "cpu", "plan": PLAN, "max_mib": 100.0}


@pytest.fixture(scope="module", autouse=True)
def two_epochs():
    """However busy the machine: a search by the clock would train another number of epochs each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "fitting", lambda paces, *_, **__: budget.Schedule(1, [Rung(2, len(paces))], 1.0))
        yield


@pytest.fixture(scope="module")
def advised(scenes, tmp_path_factory, two_epochs):
    """The folder and the answer of a search that has one candidate."""
    return api.advise(scenes, tmp_path_factory.mktemp("advice") / "a", budget="10m", **SMALL)


def test_the_folder_is_that_of_an_ordinary_study(advised, scenes):
    out, found = advised
    record, search = read_json(out / "study.json"), read_json(out / "search.json")
    assert (record["epochs"], record["every"]) == (search["rungs"][-1][0], search["every"])
    assert search["over"] and search["spent"] < 600 and read_json(out / "advice.json") == found
    assert {"rotnet", "supervised", "random_init", "pixels"} <= set(results.read(out).technique)
    before = results.read(out)
    settings = {name: SMALL[name] for name in ("techniques", "backbones", "device", "plan")}
    _, failed = api.study(scenes, out, epochs=record["epochs"], every=record["every"], **settings)
    assert failed == [] and results.read(out).equals(before)


def test_called_again_it_answers_at_once(advised, scenes):
    out, found = advised
    assert api.advise(scenes, out, budget="10m", **SMALL)[1] == found
    with pytest.raises(BadSetting, match=r"budget is 600\.0 there and 60\.0 here"):
        api.advise(scenes, out, budget=60, **SMALL)


def test_a_search_that_was_killed_does_not_get_its_budget_anew(advised, scenes, tmp_path):
    out = shutil.copytree(advised[0], tmp_path / "a")
    trained = read_log(out / "cells" / "rotnet-shufflenet_v2-0")[-1]["total_seconds"]
    write_json(out / "search.json", {**read_json(out / "search.json"), "over": False, "spent": 0.0})
    api.advise(scenes, out, budget="10m", **SMALL)
    assert read_json(out / "search.json")["spent"] >= trained > 0


def test_limits_and_trainings_are_of_one_network():
    """Of small images a long training takes another stem than a short one."""
    pool = type("Pool", (), {"image_size": 32, "__len__": lambda self: 500})()
    make = {"recipe": "small", "epochs": None, "batch": None, "options": {}, "data": Data("x", pool, None, None)}
    asked = advising._Asked(["rotnet"], ["resnet18"], 0, make, make["data"], make["data"], True, "labels", None, 60.0)
    (measured,), (trained,) = asked.cells(), asked.cells(6)
    assert measured.backbone_options == trained.backbone_options == {"stem": "half"} and trained.recipe.epochs == 6


def test_without_labels_it_says_so_and_promises_no_accuracy(scenes, tmp_path):
    unlabelled = Data("photos", scenes.pool, None, None)
    out, found = api.advise(unlabelled, tmp_path / "a", budget="10m", score="nesum", **SMALL)
    assert found["pick"]["expected"] is None and found["against"] == {} and found["pick"]["score"] >= 1
    words = in_words(found)
    assert "chosen by nesum, without labels: how accurate it is cannot be said" in words
    assert "no better than by lot" in words
    assert set(results.read(out).probe) == {"geometry"} and (out / "table.md").exists()


@pytest.mark.heavy
def test_the_command_halves_a_grid_and_the_report_reads_it(tmp_path, capsys):
    data = str(labelled_folder(tmp_path))
    words = ["--techniques", "rotnet", "simclr", "--backbones", "shufflenet_v2", "squeezenet", "--image-size", "32"]
    words += ["--device", "cpu", "--workers", "1", "--out", str(tmp_path / "a")]
    assert cli.main(["advise", "--data", data, "--budget", "3m", "--max-macs", "1G", *words]) == 0
    told = capsys.readouterr()
    assert "will try: 4 candidates" in told.err and told.out.startswith("Pick ")
    assert cli.main(["report", str(tmp_path / "a")]) == 0


def test_a_technique_that_is_taught_is_refused_without_a_word_of_flags_that_are_not_there(tmp_path, capsys):
    assert cli.main(["advise", "--data", str(tmp_path), "--techniques", "simclr", "distil"]) == 1
    said = capsys.readouterr().err
    assert "distil learns from a teacher, and a search has none" in said and "--teacher" not in said


def test_a_word_that_is_no_budget_is_refused_before_any_image_is_opened(tmp_path, capsys):
    assert cli.main(["advise", "--data", str(tmp_path), "--budget", "long"]) == 1
    assert "budget 'long' is no time: write 45m, 2h or 1h30m" in capsys.readouterr().err
