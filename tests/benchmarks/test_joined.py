"""Parts of a study put together: the table is that of one study, what differs is refused by name."""

import shutil
from pathlib import Path

import pytest

from benchmarks.joined import join
from lilliput import api
from lilliput.errors import BadSetting, LilliputError
from lilliput.studies import results
from lilliput.studies.record import read_study
from lilliput.system.records import write_json
from lilliput.training.record import read_log, read_run
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
    run = tmp_path / "whole/cells/simclr-shufflenet_v2-0"
    assert "command" in read_run(parts[1] / "cells" / run.name) and "command" not in read_run(run)
    assert read_log(run) == read_log(parts[1] / "cells" / run.name)
    assert not list((tmp_path / "whole").rglob("*.safetensors"))
    api.report(tmp_path / "whole")
    assert "SimCLR" in (table := (tmp_path / "whole/table.md").read_text()) and "RotNet" in table


def test_a_study_grows_by_a_part_and_a_cell_can_be_left_out(parts, tmp_path):
    whole = tmp_path / "whole"
    join(parts[:1], whole)
    assert (whole / "cells/rotnet-shufflenet_v2-0/run.json").exists() and list(whole.glob("traces/*.json"))
    join([whole, parts[1]], whole, without=["rotnet-shufflenet_v2-0"])
    rows = results.read(whole)
    assert "simclr" in set(rows.technique) and "rotnet" not in set(rows.technique)
    assert [run.name for run in (whole / "cells").iterdir()] == ["simclr-shufflenet_v2-0"]
    with pytest.raises(BadSetting, match=r"--leave-out rotnet-shufflenet_v2 is none of .*simclr-shufflenet_v2-0"):
        join([whole], tmp_path / "other", without=["rotnet-shufflenet_v2"])


def changed(study, to, change):
    """A copy of a study, its rows and record as they are changed."""
    shutil.copytree(study, to)
    record, rows = change(read_study(to), results.read(to))
    write_json(to / "study.json", {name: value for name, value in record.items() if name != "sha256"})
    (to / "results.csv").unlink()
    results.append(to, rows.to_dict("records"))
    return to


@pytest.mark.parametrize("order", [1, -1])
def test_a_cell_of_two_parts_is_the_one_that_went_further_whole(parts, order, tmp_path):
    """And not some epochs of one training and some of the other."""

    def broken_off(record, rows):
        rows = rows[(rows.technique == "rotnet") & (rows.epoch <= 1)]
        return record, rows.assign(value=rows.value + 1)

    both = [parts[0], changed(parts[0], tmp_path / "short", broken_off)][::order]
    join(both, tmp_path / "whole")
    for cell, rows in results.read(tmp_path / "whole").groupby(results.CELL):
        own = results.read(parts[0])
        own = own[(own[results.CELL] == list(cell)).all(axis=1)]
        assert sorted(rows.value) == sorted(own.value), cell


def test_what_makes_no_one_study_is_refused_before_anything_is_written(parts, tmp_path):
    def larger(record, rows):
        return {**record, "image_size": record["image_size"] + 8}, rows

    def later(record, rows):
        return {**record, "format": 99}, rows

    def of_another_text(digest):
        return lambda record, rows: ({**record, "own_files": {"mine": {"path": "mine.py", "sha256": digest}}}, rows)

    larger, later = (changed(parts[1], tmp_path / name, change) for name, change in (("l", larger), ("f", later)))
    for wrong, said in ((larger, "image_size"), (later, "format"), (tmp_path / "nowhere", "nowhere")):
        with pytest.raises(LilliputError, match=said):
            join([parts[0], wrong], tmp_path / "whole")
    one, two = (changed(parts[1], tmp_path / text, of_another_text(text)) for text in ("a", "b"))
    with pytest.raises(LilliputError, match="another text of mine"):
        join([one, two], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.csv").write_text("mine")
    with pytest.raises(BadSetting, match="not empty and holds no study"):
        join(parts, tmp_path / "run")
    assert (tmp_path / "run/results.csv").read_text() == "mine"


def test_rows_outlive_a_failure_to_write(parts, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    join(parts[:1], whole)
    before = (whole / "results.csv").read_bytes()

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(results, "append", full)
        with pytest.raises(OSError, match="no space"):
            join([whole, parts[1]], whole)
    assert (whole / "results.csv").read_bytes() == before
    monkeypatch.chdir(tmp_path)
    join([whole, parts[1]], Path("whole"))  # the same folder by another name
    assert "simclr" in set(results.read(whole).technique)


def test_two_parts_that_have_each_what_the_other_lacks_are_refused(parts, tmp_path):
    """More probes of an early epoch do not outweigh a later one, nor the other way round."""

    def early(record, rows):
        return record, rows[(rows.technique != "rotnet") | (rows.epoch <= 1)]

    def poor(record, rows):
        return record, rows[(rows.technique != "rotnet") | (rows.probe == "linear")]

    both = [changed(parts[0], tmp_path / name, change) for name, change in (("early", early), ("poor", poor))]
    told = r"rotnet-shufflenet_v2-0 was judged at epoch \d by knn in .*early and not in .*poor, at epoch 2 by linear"
    with pytest.raises(BadSetting, match=told):
        join(both, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    join([*both, parts[0]], tmp_path / "whole")  # which has all that both have
    assert (results.read(tmp_path / "whole").technique == "rotnet").sum() == (
        results.read(parts[0]).technique == "rotnet"
    ).sum()
