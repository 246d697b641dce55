"""What a study learns from and what judges it, where folders come as people have them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from lilliput import api
from lilliput.data.store import Data
from lilliput.datasets import without_leaks
from lilliput.errors import BadData, BadSetting
from lilliput.reports import tables
from lilliput.studies import results
from lilliput.system import records
from tests.conftest import SMALL, labelled_folder

ROTNET = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], "probes": ["knn"], **SMALL, "epochs": 1}


@pytest.fixture
def classes(tmp_path):
    """Forty images in two folders of classes, without a split."""
    labelled = labelled_folder(tmp_path)
    for kind in ("dark", "light"):
        shutil.copytree(labelled / "train" / kind, tmp_path / "classes" / kind)
    return tmp_path / "classes"


def test_folders_of_classes_alone_are_studied_verified_and_reported(classes, tmp_path, capsys):
    out, failed = api.study(classes, tmp_path / "s", **ROTNET)
    record = records.read_json(out / "study.json")
    assert (record["pool_images"], record["train_images"], record["test_images"], failed) == (32, 32, 8, [])
    assert api.verify(out, sample=2) and api.verify(out, classes, sample=2)
    assert "has no split: its 2 folders are taken for classes" in capsys.readouterr().err
    rows = api.probe(out / "cells" / "rotnet-shufflenet_v2-0", classes, probes=["linear"], test_share=0.5)
    assert "linear" in set(rows["probe"])


def test_a_test_share_and_a_table_belong_to_the_judge(classes, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["file,label"]
    for path in sorted(classes.rglob("*.png")):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
        lines.append(f"{path.parent.name}-{path.name},{path.parent.name}")
    (table := tmp_path / "labels.csv").write_text("\n".join(lines))
    out, _ = api.study(classes / "dark", tmp_path / "s", judge=flat, labels=table, test_share=0.5, **ROTNET)
    record = records.read_json(out / "study.json")
    assert (record["pool_images"], record["train_images"], record["test_images"]) == (20, 20, 20)
    assert record["classes"] == ["dark", "light"]
    with pytest.raises(BadSetting, match=r"scenes takes no --test-share"):
        api.study("scenes", tmp_path / "x", test_share=0.5, **ROTNET)


def test_a_study_whose_judge_has_one_class_is_refused_before_any_work(classes, tmp_path):
    shutil.rmtree(classes / "light")
    with pytest.raises(BadData, match=r"classes has one class, 'dark'"):
        api.study(classes, tmp_path / "s", test_share=0.5, **ROTNET)
    assert not (tmp_path / "s").exists()


def test_leaving_out_the_last_image_of_a_class_is_refused(tmp_path):
    labelled = labelled_folder(tmp_path)
    shutil.rmtree(labelled / "test" / "dark"), shutil.copytree(labelled / "train" / "dark", labelled / "test" / "dark")
    with pytest.raises(BadData, match="class 'dark' is among the test images alone: nothing to learn it from"):
        api.study(labelled, tmp_path / "s", leave_out="exact", **ROTNET)
    assert not (tmp_path / "s").exists()


def test_what_a_run_stops_by_is_cleaned_of_the_judges_test_images_too(scenes):
    """The kNN score of `--until-converged` is fitted on the labelled images of --data, whoever judges."""
    test = scenes.train.take(range(0, len(scenes.train), 7))
    judge = Data("judge", scenes.pool, scenes.test, test)
    data, judged = without_leaks(scenes, judge, "exact")
    left = {image.tobytes() for image in data.train.images} & {image.tobytes() for image in test.images}
    assert len(test) > 5 and not left and len(data.train) == len(scenes.train) - len(test)
    assert judged.test is test and without_leaks(scenes, judge, None)[0].train is scenes.train


def test_a_pool_without_data_takes_all_its_images_and_says_who_judges(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    (photos := tmp_path / "photos").mkdir()
    for number in range(500):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(photos / f"{number}.png")
    seen = {}

    class Grid:
        def __init__(self, cells, data, labelled, *_):
            seen.update(pool=data.pool, cells=cells, judge=labelled.name)
            raise BadData("seen enough")

    monkeypatch.setattr("lilliput.studies.grid.Grid", Grid)
    with pytest.raises(BadData, match="seen enough"):
        api.study(pool=photos, techniques=["rotnet"], backbones=["shufflenet_v2"], image_size=16)
    assert len(seen["pool"]) == 500 and "the embedded photographs judge what is learned from" in capsys.readouterr().err


def test_several_judges_each_have_their_rows_and_are_compared(tmp_path):
    """The first is the study's own; a study that goes on judges by no image twice."""
    folder, grid = labelled_folder(tmp_path), {**ROTNET, "techniques": ["rotnet", "simclr"], "probes": ["linear"]}
    grid |= {"baselines": ["pixels"]}
    (tmp_path / "others").mkdir()
    other = labelled_folder(tmp_path / "others")
    for path in other.rglob("*/light/*.png"):  # blue, so that the images are others
        Image.new("RGB", (32, 32), (0, 0, 200)).save(path)
    shutil.copytree(other, tmp_path / "blue")
    judges = [folder, tmp_path / "blue"]
    out, failed = api.study(folder, tmp_path / "s", judge=judges, **grid)
    rows = results.read(out)
    own, further = (set(rows.technique[rows.judge == f"folder-{name}"]) for name in ("labelled", "blue"))
    assert not failed and own == further == {"pixels", "rotnet", "simclr"}
    record = records.read_json(out / "study.json")
    assert record["judge"] == "folder-labelled" and api.verify(out, sample=4)
    table = (out / "table.md").read_text().split("# Techniques by data set")[1]
    ranks = [tables.mean_ranks(rows[rows.judge == f"folder-{name}"]) for name in ("labelled", "blue")]
    for technique, title in (("rotnet", "RotNet"), ("simclr", "SimCLR")):
        numbers = " | ".join(f"{of_judge[technique]:.2f}" for of_judge in ranks)
        assert f"| {title} |" in table and f"| {numbers} |" in table
    log = (out / "results.csv").read_bytes()
    api.study(folder, out, judge=judges, **grid)
    assert (out / "results.csv").read_bytes() == log
    with pytest.raises(BadData, match="has no labels to judge by"):
        api.study(folder, tmp_path / "x", judge=[folder, folder / "train" / "dark"], **grid)
    assert not (tmp_path / "x").exists()
