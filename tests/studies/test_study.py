"""The study: the grid with its baselines, what it leaves behind, what happens when a cell fails or it runs again."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lilliput import api, catalog
from lilliput.errors import BadData, BadSetting
from lilliput.probes import LabelledExam
from lilliput.probes.linear import linear
from lilliput.studies import jobs, results
from lilliput.system.plan import Plan
from lilliput.training.encoders import load_encoder, saved_encoders
from lilliput.training.record import read_log

CPU = Plan("cpu", "fp32", channels_last=False)
PLAN = {"precision": "fp32", "channels_last": True}
SMALL = {"epochs": 2, "every": 1, "batch": 16, "device": "cpu", "plan": PLAN, "width": 0.5}


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    return api.study(scenes, out, techniques=["simclr", "split_brain"], backbones=["shufflenet_v2"], **SMALL)


def test_a_study_leaves_rows_table_figures_and_encoders(finished):
    out, failed = finished
    assert failed == []
    for name in ("study.json", "results.csv", "table.md", "figure1.png", "figure1.svg", "figure2.png", "figure2.svg"):
        assert (out / name).stat().st_size > 0
    rows = results.read(out)
    main = rows[(rows["probe"] == "linear") & (rows["metric"] == "accuracy")]
    told = {(r.technique, r.backbone, r.epoch) for r in main.itertuples()}
    assert told == {
        ("pixels", "", 0), ("random_init", "shufflenet_v2", 0), ("random_init_measured", "shufflenet_v2", 0),
        ("supervised", "shufflenet_v2", 2),
        *((t, "shufflenet_v2", e) for t in ("simclr", "split_brain") for e in (0, 1, 2)),
    }  # fmt: skip
    for cell in ("simclr-shufflenet_v2-0", "split_brain-shufflenet_v2-0"):
        saved = sorted(path.name for path in (out / "cells" / cell).glob("encoder*"))
        assert saved == [f"encoder_00{n}.safetensors" for n in range(3)]


def test_rows_carry_their_costs(finished):
    rows = results.read(finished[0])
    cells = rows[rows["technique"].isin(["simclr", "split_brain"]) & (rows["epoch"] == 2)]
    for column in ("seconds", "probe_seconds", "images_per_s", "parameters", "multiply_adds", "peak_memory_mib", "kwh"):
        assert (cells[column] > 0).all(), column
    assert (cells["multiply_adds_224"] > cells["multiply_adds"]).all()
    assert np.allclose(
        cells["grams_co2_ml_impact"], cells["seconds"] / 3600 * 0.25 * 420, rtol=0.01
    )  # seconds are rounded
    assert set(cells["recipe"]) == {"small"} and set(cells["judge"]) == {"scenes"}


def test_confusions_add_up_to_the_test_images_and_to_the_accuracy(finished):
    rows = results.read(finished[0])
    one = rows[(rows["technique"] == "simclr") & (rows["epoch"] == 2) & (rows["probe"] == "linear")]
    confusion = one[one["metric"].str.startswith("confusion/")]
    parts = confusion["metric"].str.split("/", expand=True)
    right = confusion["value"][parts[1] == parts[2]].sum()
    assert confusion["value"].sum() == 100
    assert one.loc[one["metric"] == "accuracy", "value"].item() == pytest.approx(right / 100)


def test_the_random_baseline_is_the_first_checkpoint_of_every_technique_that_keeps_the_network_whole(finished):
    rows = results.read(finished[0])
    rows = rows[(rows["probe"] == "linear") & (rows["metric"] == "accuracy") & (rows["epoch"] == 0)]
    value = rows.set_index("technique")["value"]
    assert value["simclr"] == value["random_init"]


def test_a_study_run_again_does_only_what_is_missing(finished, scenes, monkeypatch):
    out, _ = finished
    before, old = (out / "results.csv").read_text(), results.read(out)
    monkeypatch.setattr(jobs, "pretrain", lambda *a, **k: pytest.fail("nothing was missing"))
    api.study(scenes, out, techniques=["simclr", "split_brain"], backbones=["shufflenet_v2"], **SMALL)
    assert (out / "results.csv").read_text() == before
    monkeypatch.undo()
    done = []
    real = jobs.pretrain
    monkeypatch.setattr(jobs, "pretrain", lambda cell, *a, **k: (done.append(cell.name), real(cell, *a, **k)))
    kept = pd.read_csv(out / "results.csv", dtype=str)  # pandas 2 reads numbers not to their last bit
    kept[~((kept["technique"] == "simclr") & (kept["epoch"] == "1"))].to_csv(out / "results.csv", index=False)
    api.study(scenes, out, techniques=["simclr", "split_brain"], backbones=["shufflenet_v2"], **SMALL)
    assert done == ["simclr-shufflenet_v2-0"]
    columns = ["technique", "backbone", "epoch", "probe", "metric", "value"]
    old, new = (rows[columns].sort_values(columns).reset_index(drop=True) for rows in (old, results.read(out)))
    assert new.equals(old)


def test_a_failing_cell_is_named_and_the_others_go_on(scenes, tmp_path, monkeypatch):
    real = jobs.pretrain

    def fails_for_byol(cell, *a, **k):
        if cell.technique == "byol":
            raise RuntimeError("the loss is not\nfinite")
        return real(cell, *a, **k)

    monkeypatch.setattr(jobs, "pretrain", fails_for_byol)
    options = {**SMALL, "epochs": 1}
    out, failed = api.study(
        scenes, tmp_path / "s", techniques=["byol", "rotnet"], backbones=["shufflenet_v2"], **options
    )
    assert failed == ["byol-shufflenet_v2-0"]
    assert (out / "cells" / failed[0] / "error.txt").read_text().startswith("the loss is not finite\n")
    assert "the loss is not finite" in (out / "table.md").read_text()
    assert "rotnet" in set(results.read(out)["technique"])
    monkeypatch.undo()
    out, failed = api.study(scenes, out, techniques=["byol", "rotnet"], backbones=["shufflenet_v2"], **options)
    assert failed == [] and not (out / "cells" / "byol-shufflenet_v2-0" / "error.txt").exists()


def test_a_study_may_grow_but_not_change(finished, scenes):
    out, _ = finished
    with pytest.raises(BadSetting, match="holds another run: batch is 16 there and 20 here"):
        api.study(scenes, out, techniques=["simclr"], backbones=["shufflenet_v2"], **{**SMALL, "batch": 20})
    before = json.loads((out / "study.json").read_text())["techniques"]
    assert before == ["simclr", "split_brain"]


def test_a_folder_that_holds_something_else_is_refused(scenes, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadSetting, match="not empty"):
        api.study(scenes, tmp_path, techniques=["simclr"], backbones=["shufflenet_v2"], **SMALL)


def test_unlabelled_images_need_a_judge(scenes, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(photos / f"{number}.png")
    options = {**SMALL, "epochs": 1, "techniques": ["rotnet"], "backbones": ["shufflenet_v2"]}
    with pytest.raises(BadData, match="--judge"):
        api.study(photos, tmp_path / "s", **options)
    out = api.pretrain("rotnet", "shufflenet_v2", photos, tmp_path / "r", epochs=1, batch=16, width=0.5)
    rows = api.probe(out, scenes, probes=["knn"])
    assert set(rows["judge"]) == {"scenes"} and set(rows["data"]) == {"folder-photos"}


def test_too_few_labels_are_found_before_any_training(scenes, tmp_path):
    rng = np.random.default_rng(0)
    for split_name in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "few" / split_name / name
            folder.mkdir(parents=True)
            for number in range(5):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    with pytest.raises(BadData, match="held out"):
        api.study(
            scenes, tmp_path / "s", judge=tmp_path / "few", techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL
        )
    assert not (tmp_path / "s").exists()


# -- what is learned: 1,500 pictures at 32 px, 8 epochs, one seed, on the networks that are quickest to start ----------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalog.dataset("scenes")(image_size=32, limit=1500, pool_count=1500)


@pytest.mark.parametrize(
    ("technique", "backbone", "margin"),
    [
        ("simclr", "squeezenet", 0.04),
        ("moco_v2", "squeezenet", 0.04),
        ("rotnet", "squeezenet", 0.03),
        ("split_brain", "shufflenet_v2", 0.03),
    ],
)
def test_a_few_epochs_beat_random_init(technique, backbone, margin, pictures, tmp_path):
    """Linear accuracy on test, chance 0.1; measured: from .161 to .237, .237, .213; from .205 to .262."""
    run = api.pretrain(technique, backbone, pictures, tmp_path, epochs=8, every=8, device="cpu", plan=PLAN)
    encoders = [load_encoder(path) for path in saved_encoders(run).values()]
    exams = (LabelledExam(encoder, pictures.train, pictures.test, plan=CPU) for encoder in encoders)
    before, after = (dict(linear(exam))["accuracy"] for exam in exams)
    assert after > before + margin
    if technique == "rotnet":
        assert read_log(run)[-1]["turns_told"] > 0.6  # chance is 0.25


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.heavy)])
def test_byol_learns_to_predict_and_does_not_collapse(seed, pictures, tmp_path):
    """Of accuracy so few steps show nothing (four seeds: level with random init), on whichever network."""
    options = {"epochs": 5, "every": 5, "device": "cpu", "plan": PLAN, "seed": seed}
    log = read_log(api.pretrain("byol", "squeezenet", pictures, tmp_path, **options))
    assert log[-1]["loss"] < 3 and log[-1]["loss"] < log[0]["loss"] - 0.5  # measured 2.4 to 2.6; a guess is 4
    assert log[-1]["spread"] > 0.9 and log[-1]["effective_rank"] > 6 and "flags" not in log[-1]


def test_split_brain_learns_to_paint(tmp_path):
    """64 pictures by heart: of more, it learns lightness first, and colour later than a test may take."""
    few = catalog.dataset("scenes")(image_size=32, limit=64, pool_count=64, train_count=20, test_count=10)
    options = {"epochs": 100, "every": 100, "width": 0.5, "device": "cpu", "plan": PLAN}
    log = read_log(api.pretrain("split_brain", "resnet18", few, tmp_path, **options))[-1]
    assert log["colour_told"] > log["colour_told_by_majority"] + 0.05
    assert log["lightness_told"] > log["lightness_told_by_majority"] + 0.02


def test_a_study_until_converged_counts_its_cells_as_whole(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lilliput.training.run.score_of", lambda *_: 0.3
    )  # never improves: over at the third checkpoint
    options = {**SMALL, "epochs": 6, "until_converged": 2, "probes": ["linear"]}
    few = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"]}
    out, failed = api.study(scenes, tmp_path / "s", **few, **options)
    epochs = results.read(out).query("technique == 'rotnet'").epoch
    assert not failed and epochs.max() == 3
    assert "†" not in (out / "table.md").read_text()
    before = (out / "results.csv").read_bytes()
    api.study(scenes, out, **few, **options)
    assert (out / "results.csv").read_bytes() == before
    with pytest.raises(BadSetting, match="until_converged"):
        api.study(scenes, out, **few, **{**options, "until_converged": 3})
