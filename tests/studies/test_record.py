"""study.json: options by backbone, in older studies too; what rows of a backbone share."""

import json
import shutil
from pathlib import Path

import pytest

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.reports import compare
from lilliput.reports.page.looks import open_sample
from lilliput.studies.record import _by_backbone, shared_settings
from lilliput.system import records
from tests.conftest import SMALL, flip_bit
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
