"""The whole way: encoders and a folder of images with boxes in, rows, a table and pictures out."""

import sys

import pytest
from PIL import Image

from lilliput import api, cli
from lilliput.detection import detect as detection
from lilliput.detection.candidates import candidates
from lilliput.errors import BadData, BadSetting, UnknownName
from lilliput.studies import results
from tests.conftest import PLAN, interrupt_at
from tests.detection.conftest import rectangles

FEW = {"image_size": 64, "steps": 2, "batch": 4, "device": "cpu", "plan": PLAN}
CELLS = [(technique, f"detection_{mode}") for technique in ("rotnet", "random_init") for mode in ("frozen", "tuned")]


@pytest.fixture
def boxes(tmp_path):
    for part, count in (("train", 6), ("test", 3)):
        rectangles(tmp_path / "boxes" / part, count, seed=count)
    return tmp_path / "boxes"


def cells_of(rows):
    return list(dict.fromkeys(zip(rows.technique, rows.probe, strict=True)))


def test_a_study_is_detected_with_beside_its_baselines_and_only_what_is_missing_is_done(
    rotnet_study, boxes, tmp_path, monkeypatch
):
    out = tmp_path / "found"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, detection, "learn", 3)
        api.detect(rotnet_study, boxes, out, **FEW)
    assert cells_of(results.read(out)) == CELLS[:2]
    learned = []
    monkeypatch.setattr(detection, "learn", lambda *a, usual=detection.learn, **n: learned.append(n) or usual(*a, **n))
    api.detect(rotnet_study, boxes, out, **FEW)
    rows = results.read(out)
    assert cells_of(rows) == CELLS and [named["tuned"] for named in learned] == [False, True]
    assert {"ap", "ap50", "ap/blue", "ap50/red"} <= set(rows.metric) and rows.value.between(0, 1).all()
    assert set(rows.epoch[rows.technique == "rotnet"]) == {3} and (rows.probe_seconds > 0).all()
    assert (out / "table.md").read_text().count("\n") == 6
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 4
    with Image.open(pictures[0]) as picture:
        assert picture.size[0] > 500


def test_other_images_or_another_schedule_want_another_folder(rotnet_study, boxes, tmp_path):
    out = tmp_path / "found"
    some = {**FEW, "modes": ["frozen"], "baselines": []}
    api.detect([rotnet_study], boxes, out, **some)
    with pytest.raises(BadSetting, match="steps is 2 there and 3 here"):
        api.detect(rotnet_study, boxes, out, **{**some, "steps": 3})
    with pytest.raises(BadSetting, match="choose another --out"):
        api.detect(rotnet_study, boxes / "train", out, **some)


def test_what_cannot_work_is_refused_by_name(rotnet_study, boxes, tmp_path):
    with pytest.raises(BadData, match="holds no encoder_"):
        api.detect(boxes, boxes, **FEW)
    with pytest.raises(
        BadData, match="none is no file of an encoder, nor the folder of a run or a study, nor zoo/NAME"
    ):
        api.detect(tmp_path / "none", boxes, **FEW)
    with pytest.raises(UnknownName, match="mode 'thawed' is none of frozen, tuned"):
        api.detect(rotnet_study, boxes, **FEW, modes=["thawed"])
    with pytest.raises(UnknownName, match="baseline 'pixels' is none of"):
        api.detect(rotnet_study, boxes, **FEW, baselines=["pixels"])
    with pytest.raises(BadSetting, match="steps 0 is not a whole number of 1 or more"):
        api.detect(rotnet_study, boxes, **{**FEW, "steps": 0})


def test_an_encoder_of_the_zoo_is_called_by_its_name():
    (one,) = candidates(["zoo/shufflenet_v2"], [])
    assert (one.technique, one.backbone) == ("simclr", "shufflenet_v2") and one.build().dim == 1024


def test_without_the_extra_the_error_says_how_to_have_it(rotnet_study, boxes, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(BadSetting, match=r'not installed: pip install "lilliput\[detection\]"'):
        api.detect(rotnet_study, boxes, **FEW)


def test_the_command_prints_the_table(rotnet_study, boxes, tmp_path, capsys):
    run = rotnet_study / "cells" / "rotnet-shufflenet_v2-0"
    words = [
        "--data",
        str(boxes),
        "--image-size",
        "64",
        "--steps",
        "2",
        "--batch",
        "4",
        "--baselines",
        "--device",
        "cpu",
    ]
    assert cli.main(["detect", str(run), *words, "--out", str(tmp_path / "o"), "--modes", "frozen"]) == 0
    printed = capsys.readouterr().out
    assert "| rotnet | shufflenet_v2 | 3 | 0 | frozen | ." in printed and "a picture for each detector" in printed
