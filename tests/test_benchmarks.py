"""Every benchmark runs: its core for a step or two on tiny data, so that none is left behind when the package moves."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import augment, faults, judging, memory, throughput, time_to_accuracy
from benchmarks.throughput import Case

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A pool of 16 pictures, and two classes of 20 to learn from and 5 to judge by, 32 px."""
    folder, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    counts = {"pool": 16, "labelled/train/dim": 20, "labelled/train/light": 20}
    for name, count in {**counts, "labelled/test/dim": 5, "labelled/test/light": 5}.items():
        (folder / name).mkdir(parents=True)
        brightest = 256 if name.endswith("light") else 128
        for number in range(count):
            pixels = draws.integers(0, brightest, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A figure is that of two steps."""
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    monkeypatch.setattr(throughput, "STEPS", 2)


def case_of(photos, technique="simclr"):
    return Case(technique, "shufflenet_v2", size=32, batch=4, pool=str(photos / "pool"))


def run_module(*words):
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("side", throughput.SIDES)
@pytest.mark.parametrize("technique", throughput.LIGHTLY)
def test_every_side_learns_from_images_by_the_second(side, technique, photos):
    if side == "lightly":
        pytest.importorskip("lightly", reason="lightly is not installed (extra bench)")
    figure = throughput.measure(side, case_of(photos, technique))
    assert figure["images_per_s"] > 0
    assert re.match(r"(fp32|bf16)\b", figure["plan"])


def test_a_process_of_its_own_measures_a_side(photos):
    words = ["--side", "ceiling", "--pool", photos / "pool", "--techniques", "byol", "--backbones", "shufflenet_v2"]
    script = "import sys; from benchmarks import throughput as t; t.SECONDS, t.STEPS = 0.0, 2; t.main()"
    words += ["--sizes", "32", "--batch", "4"]
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=ROOT)
    assert '"images_per_s": ' in ended.stdout, ended.stderr


def test_a_row_of_throughput_has_medians_and_ratios(photos):
    figures = {
        "ours": [{"images_per_s": rate, "plan": "fp32 x2"} for rate in (10.0, 30.0, 20.0)],
        "ceiling": [{"images_per_s": 40.0, "plan": "fp32 x2"}],
    }
    row = throughput.row(case_of(photos), figures)
    assert row == "| 32 | simclr | shufflenet_v2 | 20 (10-30) | 40 (40-40) | fp32 x2 | 0.50 | – |"


@pytest.mark.parametrize("side", ["ours", "lightly"])
def test_both_sides_are_judged_before_and_while_they_learn(side, photos):
    if side == "lightly":
        pytest.importorskip("lightly", reason="lightly is not installed (extra bench)")
    budget = time_to_accuracy.Budget(minutes=1e-6, share=1.0, limit=8)
    untrained, *trained = time_to_accuracy.curve(side, case_of(photos), budget, str(photos / "labelled"))
    assert (untrained["seconds"], untrained["images"]) == (0.0, 0)
    assert trained and all(0 <= point["accuracy"] <= 1 and point["images"] > 0 for point in trained)


def test_a_row_of_time_says_when_each_side_was_as_good_as_lightly_at_its_best(photos):
    def points(*pairs):
        return [{"seconds": seconds, "accuracy": accuracy} for seconds, accuracy in pairs]

    lightly = points((0, 0.2), (50, 0.4), (100, 0.3))
    ours = points((0, 0.2), (10, 0.3), (20, 0.45))
    row = time_to_accuracy.row(case_of(photos), {"lightly": lightly, "ours": ours})
    assert row == "| simclr | shufflenet_v2 | 0.200 | 0.400 | 50 | 20 | 0.40 | 0.450 after 20 s |"
    row = time_to_accuracy.row(case_of(photos), {"lightly": lightly, "ours": ours[:2]})
    assert "| not | – | 0.300 after 10 s |" in row


def test_encoders_are_judged_again_though_they_are_equal(photos, capsys, monkeypatch):
    options = argparse.Namespace(
        data=str(photos / "labelled"), run=None, backbone="shufflenet_v2", checkpoints=2, size=32
    )
    seconds, accuracy, encoder = judging.ours(options)
    assert seconds > 0 and 0 <= accuracy <= 1 and encoder.dim
    assert "2 encoders, 50 images of 32 px" in capsys.readouterr().out


def test_lightly_judges_the_same_encoder(photos):
    pytest.importorskip("lightly", reason="lightly is not installed (extra bench)")
    from lilliput import catalog

    encoder = catalog.backbone_builder("shufflenet_v2")()
    assert 0 <= judging.lightly(encoder, str(photos / "labelled"), 32, 1) <= 1


def test_the_memory_of_a_run_is_some_hundred_mebibytes():
    assert 100 < memory.peak_mib("rotnet", "shufflenet_v2", size=32, batch=2) < 4096


def test_both_ways_of_augmenting_are_timed():
    ours, torchvisions = augment.views_per_s(32, count=2, times=1)
    assert ours > 0 and torchvisions > 0


def test_a_killed_study_ends_with_the_same_bits():
    """The shortest version of benchmarks/faults.py: one technique, one kill."""
    ended = run_module("benchmarks.faults", "--kills", "1", "--techniques", "rotnet")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 kills" in ended.stdout and " 0 of them with other bits" in ended.stdout


def test_the_kills_are_shared_by_the_techniques():
    assert faults.shares(5, ["rotnet", "byol"]) == [("rotnet", 2), ("byol", 3)]


def test_a_study_killed_in_a_cell_has_the_rows_of_an_undisturbed_one():
    ended = run_module("benchmarks.load", "--cells", "2", "--techniques", "rotnet")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 0 of them not in both" in ended.stdout
