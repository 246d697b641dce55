"""Cells run once more: drawn by chance, the same to the bit, told apart where they are not; and their commands."""

import dataclasses
import shlex
import shutil
from itertools import pairwise

import pytest

from lilliput import api
from lilliput.datasets import open_data
from lilliput.errors import BadData, BadSetting, UnknownName
from lilliput.studies import again, results
from lilliput.studies.record import read_study
from lilliput.training.cell import make_cell


def test_a_cell_once_more_is_the_same_to_the_bit_and_is_not_done_twice(rotnet_study, scenes, tmp_path, capsys):
    for _ in range(2):
        assert api.verify(rotnet_study, scenes, again=5, out=tmp_path / "again")
        said = capsys.readouterr()
        assert "rotnet on shufflenet_v2, seed 0: " in said.out and "all values the same, within ±" in said.out
        assert "1 of 1 hold" in said.out and "--techniques rotnet --backbones shufflenet_v2 --seeds 0" in said.err
    assert [path.name for path in (tmp_path / "again/cells").iterdir()] == ["rotnet-shufflenet_v2-0"]
    assert read_study(tmp_path / "again")["plans"] == read_study(rotnet_study)["plans"]


def test_a_figure_that_does_not_come_out_again_is_beyond(rotnet_study, scenes, tmp_path, capsys):
    study = shutil.copytree(rotnet_study, tmp_path / "s")
    rows = results.read(study)
    accuracy = (rows.technique == "rotnet") & (rows.probe == "linear") & (rows.metric == "accuracy")
    rows.loc[accuracy, "value"] = 0.999
    (study / "results.csv").unlink()
    results.append(study, rows.to_dict("records"))
    assert not api.verify(study, scenes, again=1, out=tmp_path / "again")
    assert "BEYOND" in (said := capsys.readouterr().out) and "0 of 1 hold" in said


def test_other_images_are_refused_before_any_work(rotnet_study, scenes, tmp_path):
    other = scenes._replace(pool=scenes.pool.take(slice(0, 64)))
    with pytest.raises(BadData, match=r"not the images that .* learned from"):
        api.verify(rotnet_study, other, again=1, out=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_command_says_what_is_unusual_and_makes_the_same_cell(rotnet_study):
    record = read_study(rotnet_study)
    options = {"temperature": 0.5, "stem": "half", "lr": 0.02}
    cell = make_cell("simclr", "shufflenet_v2", seed=3, epochs=record["epochs"], batch=record["batch"], options=options)
    record["options"]["simclr"] = cell.technique_options
    record["backbone_options"]["shufflenet_v2"] = cell.backbone_options
    record["recipes"]["simclr"] = {**dataclasses.asdict(cell.recipe)}
    del record["recipes"]["simclr"]["presets"]
    assert again.cell_of(record, "simclr", "shufflenet_v2", 3) == cell
    words = shlex.split(again.command_of(record, cell))
    flags = dict(pairwise(words))
    assert (flags["--temperature"], flags["--stem"], flags["--lr"]) == ("0.5", "half", "0.02")
    assert flags["--seeds"] == "3" and "--weight-decay" not in flags and "--strength" not in flags


def test_a_folder_is_asked_for_as_a_folder_whatever_data_set_has_its_name(rotnet_study):
    record = {**read_study(rotnet_study), "judge": "folder-stl10", "data": "folder-photos"}
    flags = dict(pairwise(shlex.split(again.command_of(record, again.cell_of(record, "rotnet", "shufflenet_v2", 0)))))
    assert (flags["--data"], flags["--pool"]) == ("stl10/", "photos/")
    assert again.asked_for("stl10") == "stl10"
    with pytest.raises(UnknownName, match="no folder 'stl10/'"):
        open_data(again.asked_for("folder-stl10"))


def test_what_began_with_weights_is_left_to_its_own_command(rotnet_study):
    record = read_study(rotnet_study)
    with pytest.raises(BadSetting, match="began with weights"):
        again.cell_of({**record, "init": "imagenet"}, "rotnet", "shufflenet_v2", 0)
