"""Our own form at half the size."""

import shutil

import pytest
import torch

import lilliput
from lilliput import api, cli
from lilliput.deploy import own
from lilliput.errors import BadSetting
from lilliput.system.records import read_json
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.encoders import load_encoder
from tests.conftest import NARROW, rng

IMAGES = torch.rand(4, 3, 32, 32, generator=rng())


def test_half_the_size_gives_the_features_to_a_thousandth(finished_run, scenes, tmp_path):
    out = api.export(finished_run, "lilliput", scenes, tmp_path / "out")
    (file,) = out.glob("*.safetensors")
    assert file.stat().st_size < 0.55 * (finished_run / file.name).stat().st_size
    ours, theirs = (lilliput.load_encoder(folder)(IMAGES) for folder in (finished_run, out))
    assert 0 < (ours - theirs).abs().max() <= 1e-3 * ours.abs().max()
    assert theirs.dtype == torch.float32
    rows = read_json(out / "export.json")["rows"]
    assert abs(rows[0]["accuracy"] - rows[1]["accuracy"]) <= 0.02
    card = (out / "README.md").read_text()
    assert f'lilliput.load_encoder("{file.name}")' in card and "Normalisation is inside." in card
    assert card.count("\n- lilliput\n") == 1 and "eight bits" not in card


def test_it_is_judged_as_the_run_is_and_names_no_folder_of_its_maker(finished_run, scenes, tmp_path):
    out = api.export(finished_run, "lilliput", scenes, tmp_path / "out")
    assert set(read_json(finished_run / "run.json")) - set(read_json(out / "run.json")) == {"command"}
    assert "/" not in (out / "run.json").read_text()
    rows = api.probe(out, scenes, probes=["linear"])
    (ours,) = rows[rows.metric == "accuracy"].value
    assert ours == pytest.approx(read_json(out / "export.json")["rows"][1]["accuracy"], abs=0.02)


def test_weights_that_do_not_bear_it_stay_whole(finished_run, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(own, "kept", lambda _: False)
    out = api.export(finished_run, "lilliput", scenes, tmp_path / "out")
    (file,) = out.glob("*.safetensors")
    assert torch.equal(load_encoder(out)(IMAGES), load_encoder(finished_run)(IMAGES))
    assert all(value.dtype != torch.half for value in read_tensors(file)[0].values())


def test_what_overflows_in_16_bits_stays_whole_and_that_is_told(finished_run, scenes, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "run")
    weights, header = read_tensors(run / "encoder_003.safetensors")
    write_tensors(run / "encoder_003.safetensors", {**weights, "conv1.weight": 1e6 * weights["conv1.weight"]}, header)
    out = api.export(run, "lilliput", scenes, tmp_path / "out")
    assert "the weights stay in 32" in capsys.readouterr().err
    assert lilliput.load_encoder(out)(IMAGES).isfinite().all()


def test_no_other_run_study_or_export_is_written_over(finished_run, whole_run, scenes, tmp_path):
    out = api.export(finished_run, "lilliput", scenes, tmp_path / "out")
    api.export(finished_run, "lilliput", scenes, out)  # the same again is no other
    (tmp_path / "study").mkdir()
    (tmp_path / "study/study.json").write_text("{}")
    for folder, what in ((out, "another export"), (finished_run, "a run"), (tmp_path / "study", "a study")):
        with pytest.raises(BadSetting, match=f"is {what}, which would be written over: give another folder"):
            api.export(whole_run, "lilliput", scenes, folder)


def test_it_cannot_go_on_learning(finished_run, scenes, tmp_path):
    out = api.export(finished_run, "lilliput", scenes, tmp_path / "out")
    whole = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(BadSetting, match="holds only what was exported of a run, which cannot go on"):
        api.pretrain("simclr", "resnet18", scenes, out, **NARROW)
    assert {path: path.read_bytes() for path in whole} == whole


def test_another_form_that_fails_costs_the_run_nothing(finished_run, scenes, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(BadSetting, match="to onnx"):
        api.export(run, "timm", scenes, run)  # timm has none so narrow
    assert (run / "encoder_003.safetensors").exists()


def test_the_run_is_not_written_over_and_no_classes_are_promised(finished_run, scenes, tmp_path, capsys):
    whole = {path: path.read_bytes() for path in finished_run.glob("*.*")}
    with pytest.raises(BadSetting, match="is a run, which would be written over: give another folder"):
        api.export(finished_run, "lilliput", scenes, finished_run)
    words = ["--to", "lilliput", "--classifier", "scenes", "--out", str(tmp_path / "out")]
    assert cli.main(["export", str(finished_run), *words]) == 1
    assert "leave --classifier out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in finished_run.glob("*.*")} == whole
