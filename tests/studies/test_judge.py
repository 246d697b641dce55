"""Rows: what they cost, add up to and lead back to, and what a lost encoder or row takes with it."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch

import lilliput
from lilliput import api, catalog
from lilliput.errors import BadSetting
from lilliput.probes.linear import linear
from lilliput.studies import mistakes, results
from lilliput.studies.record import read_study
from lilliput.system import records
from tests.conftest import NARROW, SMALL, flip_bit, labelled_folder


def test_a_damaged_encoder_costs_a_study_that_row_alone(scenes, tmp_path):
    out, _ = api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    expected = results.read(out)
    flip_bit(out / "cells/rotnet-shufflenet_v2-0/encoder_002.safetensors")
    (out / "results.csv").unlink()
    _, failed = api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    assert failed == ["rotnet-shufflenet_v2-0"]
    assert "encoder_002" in (out / "cells/rotnet-shufflenet_v2-0/error.txt").read_text()
    found = results.read(out)
    assert len(found) == len(expected) - len(expected[expected.epoch == 2])
    assert set(found[found.technique == "rotnet"].epoch) == {0, 1, 3}


def test_judges_are_known_by_their_images_and_not_by_their_folders_name(scenes, tmp_path):
    """Rows of two folders of one last name once replaced each other."""
    run = api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path / "run", **{**NARROW, "epochs": 1})
    one, two, renamed = (labelled_folder(tmp_path / name) for name in "abc")
    shutil.move(two / "test/dark/3.png", two / "test/light/99.png")
    renamed = renamed.rename(tmp_path / "photos")
    first = api.probe(run, one)
    both = api.probe(run, two)
    other = (set(both.judge) - set(first.judge)).pop()
    assert set(first.judge) == {"folder-labelled"} and other.startswith("folder-labelled-")
    assert both[both.judge == "folder-labelled"].value.tolist() == first.value.tolist()
    assert len(both) == len(first) + (both.judge == other).sum() and lilliput.verify(run, sample=9)
    for again in (renamed, two, one):
        assert len(api.probe(run, again)) == len(both)
    (run / "results.csv").unlink()
    assert set(api.probe(run, renamed).judge) == {"folder-photos"}


def test_a_study_of_a_folder_that_was_renamed_goes_on(tmp_path):
    photos = labelled_folder(tmp_path)
    settings = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], **NARROW, "epochs": 1, "image_size": 32}
    out, _ = api.study(photos, tmp_path / "s", **settings)
    before = (out / "results.csv").read_bytes()
    photos = photos.rename(tmp_path / "photos")
    assert api.study(photos, out, **settings)[1] == [] and (out / "results.csv").read_bytes() == before
    assert api.study(photos, out, seeds=[1], **settings)[1] == []
    rows, record = results.read(out), read_study(out)
    assert set(rows.judge) == set(rows.data) == {"folder-labelled"} == {record["judge"], record["data"]}
    (photos / "test/dark/3.png").unlink()
    with pytest.raises(BadSetting, match="judge_digests is "):
        api.study(photos, out, **settings)


def test_a_row_that_was_lost_is_judged_again(rotnet_study, scenes, tmp_path):
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    before = results.read(out)
    content = (out / "results.csv").read_bytes()
    (out / "results.csv").write_bytes(
        content.replace(b"rotnet,shufflenet_v2,0,2,linear,acc", b"rotnet,shufflenet_v2,0,2,linear,abc")
    )
    assert len(results.read(out)) < len(before)
    assert not lilliput.verify(out, scenes, sample=0)
    _, failed = api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    values = [rows.set_index(results.KEY).value.sort_index() for rows in (before, results.read(out))]
    assert not failed and values[0].equals(values[1])
    assert lilliput.verify(out, scenes, sample=1)


def test_every_row_leads_to_all_that_it_came_from(rotnet_study):
    for name in set(results.read(rotnet_study).trace):
        trace = records.read_json(rotnet_study / "traces" / f"{name}.json")
        assert trace["judged"]["versions"]["torch"] == torch.__version__ and trace["judged"]["machine"]["processor"]
        assert len(trace["judged"]["judge_digests"]) == 2 and trace["run"]["data_digest"]


def test_a_probe_that_does_not_converge_is_flagged(scenes, tmp_path):
    run = api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path, **{**SMALL, "epochs": 1})
    assert set(api.probe(run, scenes, probes=["linear"]).flagged) == {""}
    (run / "results.csv").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "probe", lambda name: partial(linear, steps=1))
        assert set(api.probe(run, scenes, probes=["linear"]).flagged) == {"probe_not_converged"}


def test_rows_carry_their_costs(small_study):
    rows = results.read(small_study[0])
    cells = rows[rows["technique"].isin(["simclr", "split_brain"]) & (rows["epoch"] == 2)]
    for column in ("seconds", "probe_seconds", "images_per_s", "parameters", "multiply_adds", "peak_memory_mib", "kwh"):
        assert (cells[column] > 0).all(), column
    assert (cells["multiply_adds_224"] > cells["multiply_adds"]).all()
    assert np.allclose(
        cells["grams_co2_ml_impact"], cells["seconds"] / 3600 * 0.25 * 420, rtol=0.01
    )  # seconds are rounded
    assert set(cells["recipe"]) == {"small"} and set(cells["judge"]) == {"scenes"}


def test_confusions_add_up_to_the_test_images_and_to_the_accuracy(small_study):
    rows = results.read(small_study[0])
    one = rows[(rows["technique"] == "simclr") & (rows["epoch"] == 2) & (rows["probe"] == "linear")]
    confusion = one[one["metric"].str.startswith("confusion/")]
    wrong = mistakes.read(one.mistakes[one.metric == "accuracy"].item())
    assert len(wrong) == 100 and set(one.mistakes[one.metric != "accuracy"]) == {""}
    parts = confusion["metric"].str.split("/", expand=True)
    right = confusion["value"][parts[1] == parts[2]].sum()
    assert confusion["value"].sum() == 100 and right == (wrong == 0).sum()
    classes = read_study(small_study[0])["classes"]
    taken = {name: confusion["value"][(parts[1] != name) & (parts[2] == name)].sum() for name in classes}
    assert taken == {name: (wrong == number).sum() for number, name in enumerate(classes, 1)}
    assert one.loc[one["metric"] == "accuracy", "value"].item() == pytest.approx(right / 100)
