"""Verification: what is so holds, what was altered, lost or damaged does not."""

import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import lilliput
from lilliput import api, catalog
from lilliput.errors import BadData, BadSetting
from lilliput.probes import score
from lilliput.studies import results, verification
from lilliput.system import mirror, records
from lilliput.training.record import read_log, write_log
from lilliput.training.state import states
from tests.conftest import (
    SMALL,
    flip_bit,
    labelled_folder,
)


def test_a_log_or_a_trace_of_other_kinds_is_refused_by_name(rotnet_study, scenes, tmp_path):
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    run = out / "cells/rotnet-shufflenet_v2-0"
    rows = read_log(run)
    for path in states(run):  # which would know better
        path.unlink()
    write_log(run, [{**row, "total_seconds": "long"} for row in rows])
    with pytest.raises(BadData, match="its total_seconds is 'long'"):
        api.probe(run, scenes, probes=["knn"])
    write_log(run, rows)
    for path in (out / "traces").glob("*.json"):
        records.write_json(path, {**records.read_json(path), "judged": {"plan": 3}})
    with pytest.raises(BadData, match=r"traces.*its plan is 3"):
        api.verify(out, scenes, sample=1)


def test_a_study_holds_when_its_rows_are_computed_anew(rotnet_study, scenes, capsys):
    for _ in range(2):  # a module of the function's name would take its place after the first
        assert lilliput.verify(rotnet_study, scenes, sample=3)
        assert "3 of 3 hold" in capsys.readouterr().out


def test_a_study_whose_log_was_altered_does_not_hold_nor_gives_rows(rotnet_study, scenes, tmp_path, capsys):
    """Seconds and energy stand in the log alone, under the digest of the state."""
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    run = out / "cells/rotnet-shufflenet_v2-0"
    write_log(run, [{**row, "total_seconds": 90.0} for row in read_log(run)])
    assert not lilliput.verify(out, scenes, sample=0)
    assert "its rows are not those of the saved state" in capsys.readouterr().err
    with pytest.raises(BadData, match="not those of the saved state"):
        api.probe(run, scenes, probes=["knn"])


def test_an_encoder_that_has_gone_is_named(rotnet_study, scenes, tmp_path, capsys):
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    run = out / "cells/rotnet-shufflenet_v2-0"
    assert lilliput.verify(out, scenes, sample=0)
    whole = int(capsys.readouterr().out.split()[0])
    (run / "encoder_002.safetensors").unlink()
    assert not lilliput.verify(out, scenes, sample=0)
    said = capsys.readouterr()
    assert "encoder_002.safetensors is missing" in said.err
    assert f"{whole - 1} of {whole} files are what was written" in said.out
    settings = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], **SMALL}
    assert api.study(scenes, out, **settings)[1] == []  # its rows are there
    (out / "results.csv").unlink()
    assert api.study(scenes, out, **settings)[1] == ["rotnet-shufflenet_v2-0"]
    assert "encoder_002" in (run / "error.txt").read_text()
    assert set(results.read(out).query("technique == 'rotnet'").epoch) == {0, 1, 3}


def test_a_study_kept_without_its_encoders_is_told_how_its_rows_can_be_checked(rotnet_study, scenes, tmp_path, capsys):
    out = tmp_path / "published"
    shutil.copytree(rotnet_study, out, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(
        BadData, match=r"published was kept without its encoders.*verify .*published --data DATA --again"
    ):
        lilliput.verify(out, scenes)
    said = capsys.readouterr()
    assert re.match(r"(\d+) of \1 files are what was written", said.out) and "missing" not in said.err
    (out / "cells/rotnet-shufflenet_v2-0/log.jsonl").unlink()
    with pytest.raises(BadData, match="without its encoders"):
        lilliput.verify(out, scenes)
    assert "log.jsonl is missing" in capsys.readouterr().err


def test_a_study_of_a_device_that_is_not_here_is_verified_on_the_one_that_is(rotnet_study, scenes, tmp_path, capsys):
    """It was refused: what a GPU had computed could not be verified on a laptop."""
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    for path in (out / "traces").glob("*.json"):
        content = records.read_json(path)
        content["judged"]["plan"] |= {"device": "xpu:7", "precision": "fp16", "threads": None}
        records.write_json(path, content)
    assert lilliput.verify(out, scenes, sample=2)
    assert capsys.readouterr().out.count(", elsewhere or by other versions, where 0.03 may be") == 2


def test_verification_leaves_threads_and_algorithms_as_they_were(rotnet_study, scenes):
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in verification.recomputed(rotnet_study, sample=2, judging=scenes.judging):
            assert torch.get_num_threads() == 2 and torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_elsewhere_an_image_may_be_guessed_otherwise(rotnet_study, scenes, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    for path in (out / "traces").glob("*.json"):
        content = records.read_json(path)
        content["judged"]["versions"]["torch"] = "2.6.0"
        records.write_json(path, content)
    flips = [1]  # test images

    def other(predicted, exam, held_out=None):
        predicted = predicted.clone()
        few = slice(0, flips[0])
        predicted[few] = (exam.test_labels[few] + (predicted[few] == exam.test_labels[few])) % len(exam.classes)
        yield from score(predicted, exam, held_out)

    monkeypatch.setattr(catalog.module("probes", "linear"), "score", other)
    assert lilliput.verify(out, scenes, sample=20)
    assert "elsewhere or by other versions" in capsys.readouterr().out
    flips[0] = 100
    assert not lilliput.verify(out, scenes, sample=20)


def test_a_pipe_among_the_files_keeps_nobody_waiting(rotnet_study, scenes, tmp_path, capsys):
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    os.mkfifo(out / "traces" / "x.json")
    os.mkfifo(out / "cells/rotnet-shufflenet_v2-0/encoder_009.safetensors")
    (out / "cells/rotnet-shufflenet_v2-0/encoder_008.safetensors").symlink_to("/dev/zero")
    assert not lilliput.verify(out, scenes, sample=0)
    assert capsys.readouterr().err.count("no regular file") == 3


def test_what_a_mirror_notes_of_its_store_is_no_file_of_the_study(store, monkeypatch, tmp_path):
    """A study in a bucket could never hold: the notes carry no digest."""
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path))
    out = mirror.here("s3://bucket/study")
    records.write_json(out / "study.json", {})
    assert list((out / mirror.SEEN).glob("*.json")) and verification.damaged_files(out) == (1, [])


def test_a_number_that_came_or_went_is_no_agreement():
    assert verification._worst({"a": 0.5, "b": np.nan}, {"a": 0.5, "b": np.nan}) == 0
    assert verification._worst({"a": 0.5, "b": 0.1}, {"a": 0.25, "b": 0.1}) == 0.25
    for new in ({"a": 0.5, "b": 0.2}, {"a": np.nan, "b": np.nan}, {"a": 0.5}, {}):
        assert verification._worst({"a": 0.5, "b": np.nan}, new) == np.inf


@pytest.mark.parametrize("harm", ["value", "encoder", "other images"])
def test_what_is_not_so_does_not_hold(harm, rotnet_study, scenes, tmp_path, capsys):
    out = tmp_path / "s"
    shutil.copytree(rotnet_study, out)
    if harm == "value":
        rows = results.read(out)
        one = rows[(rows.technique == "rotnet") & (rows.metric == "accuracy")]
        results.append(out, [{**row, "value": row["value"] + 0.01} for row in one.to_dict("records")])
        assert not api.verify(out, scenes, sample=9)
        assert "different by up to 0.01" in capsys.readouterr().out
    elif harm == "encoder":
        flip_bit(out / "cells/rotnet-shufflenet_v2-0/encoder_002.safetensors")
        assert not api.verify(out, scenes, sample=99)
        said = capsys.readouterr()
        assert "encoder_002" in said.err and said.out.count("could not be computed anew") == 2  # linear and kNN
        assert (out / "cells/rotnet-shufflenet_v2-0/encoder_002.safetensors").exists()
    else:
        other = scenes._replace(test=scenes.test.take(range(50)))
        with pytest.raises(BadData, match="not the images that judged"):
            api.verify(out, other, sample=1)


def test_leaks_are_told_and_left_out_and_the_study_still_holds(tmp_path, capsys):
    """Ten test images also in a pool of fifty, one also among the forty to fit on."""
    labelled, pool = labelled_folder(tmp_path), tmp_path / "pool"
    pool.mkdir()
    rng = np.random.default_rng(1)
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(pool / f"own-{number}.png")
    for number in range(10):
        shutil.copy(labelled / f"test/dark/{number}.png", pool / f"leak-{number}.png")
    shutil.copy(labelled / "test/light/3.png", labelled / "train/light/leak.png")
    settings = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], **SMALL, "epochs": 1}
    out, _ = api.study(labelled, tmp_path / "s", pool=pool, leave_out="exact", **settings)
    said = capsys.readouterr().err
    assert "left out: 10 images of the pool, 1 of the training images" in said
    record = records.read_json(out / "study.json")
    assert (record["pool_images"], record["train_images"], record["test_images"]) == (40, 40, 40)
    assert api.verify(out, sample=2)  # by the stores that lie here, without what was left out
    with pytest.raises(BadSetting, match="data_digest is"):
        api.study(labelled, out, pool=pool, **settings)
    with pytest.raises(BadSetting, match="neither exact nor near"):
        api.study(labelled, tmp_path / "x", pool=pool, leave_out="all", **settings)
