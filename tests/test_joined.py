"""Parts of a study put together: the table is that of one study, what differs is refused by name."""

import shutil

import pytest

from benchmarks.joined import join
from lilliput import api
from lilliput.errors import BadSetting
from lilliput.studies import results
from lilliput.studies.record import read_study
from lilliput.system.records import write_json
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def parts(rotnet_study, scenes, tmp_path_factory):
    """The study of RotNet, and one of SimCLR with the same settings."""
    other = tmp_path_factory.mktemp("parts") / "simclr"
    api.study(scenes, other, techniques=["simclr"], backbones=["shufflenet_v2"], **SMALL | {"baselines": ["pixels"]})
    return rotnet_study, other


def test_two_parts_are_one_study(parts, tmp_path):
    join(parts, tmp_path / "whole")
    whole, record = results.read(tmp_path / "whole"), read_study(tmp_path / "whole")
    assert record["techniques"] == ["rotnet", "simclr"] and set(record["recipes"]) == {"rotnet", "simclr"}
    for part in parts:
        own = results.read(part)
        learned = own[own.epoch > 0]
        again = whole.merge(learned[[*results.KEY, "value"]], on=results.KEY, suffixes=("", "_then"))
        assert len(again) == len(learned) and (again["value"] == again["value_then"]).all()
    assert not whole.duplicated(results.KEY).any()
    assert (tmp_path / "whole/cells/simclr-shufflenet_v2-0/run.json").exists()
    assert not list((tmp_path / "whole").rglob("*.safetensors"))
    api.report(tmp_path / "whole")
    assert "SimCLR" in (table := (tmp_path / "whole/table.md").read_text()) and "RotNet" in table


def test_a_study_grows_by_a_part_and_a_cell_can_be_left_out(parts, tmp_path):
    whole = tmp_path / "whole"
    join(parts[:1], whole)
    join([whole, parts[1]], whole, without=["rotnet-shufflenet_v2-0"])
    rows = results.read(whole)
    assert "simclr" in set(rows.technique) and "rotnet" not in set(rows.technique)


def test_a_part_with_other_settings_is_refused_before_anything_is_written(parts, tmp_path):
    other = shutil.copytree(parts[1], tmp_path / "other")
    record = read_study(other)
    record["image_size"] += 8
    write_json(other / "study.json", {name: value for name, value in record.items() if name != "sha256"})
    with pytest.raises(BadSetting, match="image_size"):
        join([parts[0], other], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
