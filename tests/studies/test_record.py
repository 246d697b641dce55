"""study.json: what it keeps while a study grows, what it refuses, and what of it rows of a backbone share."""

import json
import shutil
from pathlib import Path

import pytest

from lilliput import api
from lilliput.api import make_cells
from lilliput.errors import BadData, BadSetting
from lilliput.reports import compare
from lilliput.reports.page.looks import open_sample
from lilliput.studies import results
from lilliput.studies.grid import Grid
from lilliput.studies.record import _by_backbone, open_record, shared_settings
from lilliput.system import records
from lilliput.system.records import read_json, write_json
from lilliput.system.resources import Resources
from tests.conftest import PLAN, SMALL, flip_bit
from tests.studies.conftest import SHORT


def test_an_older_studys_options_are_those_of_each_of_its_backbones():
    record = {"backbones": ["resnet18", "squeezenet"], "backbone_options": {"width": 0.5}}
    assert _by_backbone(record, Path()) == {"resnet18": {"width": 0.5}, "squeezenet": {"width": 0.5}}
    assert _by_backbone({**record, "backbone_options": {}}, Path()) == {"resnet18": {}, "squeezenet": {}}
    new = {"resnet18": {"width": 0.5}, "squeezenet": {}}
    assert _by_backbone({**record, "backbone_options": new}, Path()) == new


def test_options_of_no_kind_of_ours_are_damage():
    with pytest.raises(BadData, match=r"study.json is damaged: its backbone_options is \[1\]"):
        _by_backbone({"backbone_options": [1]}, Path("x"))


def test_what_rows_of_a_backbone_share_does_not_change_when_a_study_grows():
    record = {"data": "scenes", "backbones": ["a"], "recipes": {}, "plans": {}, "backbone_options": {"a": {"width": 1}}}
    grown = {**record, "backbones": ["a", "b"], "backbone_options": {"a": {"width": 1}, "b": {}}}
    assert shared_settings(record, "a") == shared_settings(grown, "a")
    assert shared_settings(grown, "a") == {"data": "scenes", "backbone_options": {"width": 1}}
    assert shared_settings(grown, "")["backbone_options"] == {}


def test_a_damaged_study_json_is_written_anew_with_the_plans_of_its_cells(scenes, tmp_path):
    settings = {**SMALL, "plan": None, "epochs": 1}
    out, _ = api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **settings)
    plans = records.read_json(out / "study.json")["plans"]
    flip_bit(out / "study.json")
    _, failed = api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **settings)
    assert not failed and records.read_json(out / "study.json")["plans"] == plans
    assert (out / "study.json.damaged-1").exists()


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("run.json", {"plan": {"device": "cpu", "precision": "fp32", "channels_last": "no"}}),
        ("run.json", {"plan": None}),
        ("run.json", {"image_size": "32"}),
        ("run.json", {"seed": True}),
        ("run.json", {"parameters": []}),
        ("study.json", {"judge": {}}),
        ("study.json", {"test_images": "40"}),
        ("study.json", {"classes": [["a"]]}),
        ("study.json", {"judge_digests": 3}),
        ("study.json", {"judge_origin": {"digest": "", "left_out": ["x"]}}),
    ],
)
def test_records_of_other_kinds_than_ours_are_refused_by_name(rotnet_study, scenes, tmp_path, name, odd):
    """Sealed as ours are, which anyone can do."""
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    path = out / name if name == "study.json" else out / "cells/rotnet-shufflenet_v2-0" / name
    records.write_json(path, {**records.read_json(path), **odd})
    with pytest.raises(BadData, match=f"{next(iter(odd))}|channels_last|left_out"):
        if name == "run.json":
            api.probe(path.parent, scenes, probes=["knn"])
        elif "judge_digests" in odd or "judge_origin" in odd:
            open_sample(out)
        else:
            compare.compare(out, "paper")


def test_a_study_may_grow_but_not_change(small_study, scenes):
    out, _ = small_study
    with pytest.raises(BadSetting, match="holds another run: batch is 16 there and 20 here"):
        api.study(scenes, out, techniques=["simclr"], backbones=["shufflenet_v2"], **{**SHORT, "batch": 20})
    before = json.loads((out / "study.json").read_text())["techniques"]
    assert before == ["simclr", "split_brain"]


def test_a_folder_that_holds_something_else_is_refused(scenes, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadSetting, match="not empty"):
        api.study(scenes, tmp_path, techniques=["simclr"], backbones=["shufflenet_v2"], **SHORT)


def grid_of(scenes, techniques=("rotnet",), backbones=("shufflenet_v2",), *, seeds=(0,), probes=("knn",), **options):
    cells = make_cells(techniques, backbones, seeds, recipe="small", epochs=1, batch=16, options=options)
    return Grid(cells, scenes, scenes, {probe: {} for probe in probes}, every=1, resources=Resources("cpu", PLAN))


def test_a_study_that_grows_keeps_its_plans_and_options_beside_the_new_ones(scenes, tmp_path):
    record = open_record(grid_of(scenes, padding=0.25, width=0.25), tmp_path)
    plans = {"shufflenet_v2": {"device": "cpu", **PLAN, "threads": 7}}
    write_json(tmp_path / "study.json", {**record, "plans": plans})
    grown = open_record(
        grid_of(scenes, ["byol"], ["squeezenet"], seeds=[1], probes=["linear"], tau=0.5, width=0.5), tmp_path
    )
    assert grown["techniques"] == ["rotnet", "byol"] and grown["backbones"] == ["shufflenet_v2", "squeezenet"]
    assert grown["seeds"] == [0, 1] and grown["probes"] == ["knn", "linear"]
    assert grown["plans"] == plans
    assert grown["options"]["rotnet"] == record["options"]["rotnet"] == {"padding": 0.25}
    assert grown["options"]["byol"]["tau"] == 0.5
    assert grown["backbone_options"] == {"shufflenet_v2": {"width": 0.25}, "squeezenet": {"width": 0.5}}
    assert set(grown["recipes"]) == {"rotnet", "byol"} and grown["recipes"]["rotnet"] == record["recipes"]["rotnet"]
    assert read_json(tmp_path / "study.json")["plans"] == plans


def test_a_study_keeps_on_what_it_began_and_adds_on_what_its_work_went_on(scenes, tmp_path, monkeypatch):
    out = tmp_path / "s"
    settings = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], **SMALL, "probes": ["knn"]}
    api.study(scenes, out, **settings)
    first = read_json(out / "study.json")
    monkeypatch.setattr("lilliput.studies.record.versions", lambda: {"torch": "99"})
    api.study(scenes, out, **settings)
    assert read_json(out / "study.json") == first  # there was nothing to do
    for _ in range(2):
        api.study(scenes, out, **settings, seeds=[1])
        (out / "results.csv").unlink()
    went_on = read_json(out / "study.json")
    assert {name: went_on[name] for name in ("machine", "versions", "commit")} == {
        name: first[name] for name in ("machine", "versions", "commit")
    }
    assert [one["versions"] for one in went_on["went_on"]] == [{"torch": "99"}]
    monkeypatch.undo()
    api.study(scenes, out, **settings)
    assert read_json(out / "study.json")["went_on"] == went_on["went_on"]


@pytest.mark.parametrize("older", [False, True])
def test_another_width_for_a_backbone_that_is_there_is_refused(older, scenes, tmp_path):
    """A study.json of old has one set of options for all its backbones: an empty one says that each has none."""
    record = open_record(grid_of(scenes), tmp_path)
    assert record["backbone_options"] == {"shufflenet_v2": {}}
    if older:
        write_json(tmp_path / "study.json", {**record, "backbone_options": {}})
    before = (tmp_path / "study.json").read_bytes()
    with pytest.raises(BadSetting, match=r"width is None there and 0\.5 here"):
        open_record(grid_of(scenes, width=0.5), tmp_path)
    assert (tmp_path / "study.json").read_bytes() == before
    grown = open_record(grid_of(scenes, backbones=["squeezenet"], width=0.5), tmp_path)
    assert grown["backbone_options"] == {"shufflenet_v2": {}, "squeezenet": {"width": 0.5}}


def test_of_a_study_that_grows_old_rows_stay_and_only_what_is_missing_is_done(scenes, tmp_path):
    cell = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], "probes": ["knn"], "seeds": [0]}
    settings = {**SHORT, "epochs": 1, "width": 0.25}
    out, _ = api.study(scenes, tmp_path / "s", **cell, **settings)
    log = out / "cells/rotnet-shufflenet_v2-0/log.jsonl"
    baselines = "random_init", "random_init_measured", "supervised"
    with_finetuning = {("supervised", "shufflenet_v2", "1", "finetune")}
    for growth, added in (
        ({"techniques": ["byol"]}, {("byol", "shufflenet_v2", "0", "knn")}),
        (
            {"backbones": ["squeezenet"]},  # which has no batch norm to measure
            {(name, "squeezenet", "0", "knn") for name in ("rotnet", "random_init", "supervised")}
            | {("supervised", "squeezenet", "0", "finetune")},
        ),
        (
            {"seeds": [1]},
            {(name, "shufflenet_v2", "1", "knn") for name in ("rotnet", *baselines)} | with_finetuning,
        ),
        (
            {"probes": ["linear"], "seeds": [1]},  # the supervised network is not kept, so it is learned again
            {(name, "shufflenet_v2", "1", "linear") for name in ("rotnet", *baselines)}
            | {("pixels", "", "0", "linear")}
            | with_finetuning,
        ),
    ):
        before, old, logged = (out / "results.csv").read_text(), results.read(out), log.stat().st_mtime_ns
        assert api.study(scenes, out, **{**cell, **growth}, **settings)[1] == []
        after = (out / "results.csv").read_text()
        assert after.startswith(before) and log.stat().st_mtime_ns == logged
        rows = [line.split(",") for line in after.removeprefix(before).splitlines()]
        assert {(technique, backbone, seed, probe) for technique, backbone, seed, _, probe, *_ in rows} == added
        values = results.read(out).set_index(results.KEY).value
        assert values[old.set_index(results.KEY).index].tolist() == old.value.tolist()


def test_a_study_by_the_papers_recipes_grows_by_techniques_of_other_budgets(scenes, tmp_path):
    def grid(*techniques, recipe="paper"):
        cells = make_cells(techniques, ["shufflenet_v2"], [0], recipe=recipe, epochs=None, batch=None, options={})
        return Grid(cells, scenes, scenes, {"knn": {}}, every=1, resources=Resources("cpu", PLAN))

    first = open_record(grid("rotnet"), tmp_path / "s")
    grown = open_record(grid("byol"), tmp_path / "s")
    assert (first["epochs"], first["batch"], grown["epochs"], grown["batch"]) == (100, 128, 1000, 4096)
    assert [grown["recipes"][name]["epochs"] for name in ("rotnet", "byol")] == [100, 1000]
    again = open_record(grid("rotnet"), tmp_path / "s")
    assert again["epochs"] == 1000
    with pytest.raises(BadSetting, match="recipe is 'paper' there and 'small' here"):
        open_record(grid("rotnet", recipe="small"), tmp_path / "s")


def test_a_study_of_an_older_format_has_its_warm_up_as_a_share_of_training(scenes, tmp_path):
    record = open_record(grid_of(scenes), tmp_path)
    recipe = record["recipes"]["rotnet"]
    older = {**recipe, "warmup": recipe["warmup"] / recipe["epochs"]}
    del older["decay_vectors"]  # a later choice
    write_json(tmp_path / "study.json", {**record, "recipes": {"rotnet": older}, "format": 2})
    assert open_record(grid_of(scenes), tmp_path)["recipes"]["rotnet"] == recipe
