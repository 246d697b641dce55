"""study.json: options by backbone, in older studies too; what rows of a backbone share."""

from pathlib import Path

import pytest

from lilliput.errors import BadData
from lilliput.studies.record import _by_backbone, shared_settings


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
