"""Every benchmark runs: its core for a step or two on tiny data, so that none is left behind when the package moves."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import (
    augment,
    cleaning,
    costs,
    faults,
    judging,
    large,
    loss_ranks,
    memory,
    peer,
    scaling,
    streaming,
    throughput,
)
from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.engines.processes import in_turn
from lilliput.studies.record import read_study
from lilliput.training.record import read_log, read_run
from tests.benchmarks.conftest import case_of, needs_lightly

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("side", throughput.SIDES)
@pytest.mark.parametrize("technique", peer.DOCUMENTED["examples"].built)
def test_every_side_learns_from_images_by_the_second(side, technique, photos):
    if side == "lightly":
        needs_lightly()
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


def test_engines_are_timed_by_jobs_that_do_nothing_and_by_a_grid(scenes, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(scaling, "grid", lambda engine, data, out, cells, epochs: done.append((engine.workers, cells)))
    monkeypatch.setattr(processes, "side_by_side", lambda jobs, make, workers, board: in_turn(jobs, make(), board))
    one, two = scaling.measured("processes", scenes, cells=4, epochs=1)
    assert done == [(1, 4), (2, 4)] and (one["efficiency"], one["workers"], two["workers"]) == (1.0, 1, 2)
    assert 0 <= one["cell_seconds"] <= one["first_seconds"] < 60
    monkeypatch.undo()
    scaling.grid(scaling.Processes(), scenes, tmp_path / "s", 2, 1)
    assert {row.seed for row in results.read(tmp_path / "s").itertuples()} == {0, 1}


def test_encoders_are_judged_and_their_features_timed(photos, capsys):
    options = argparse.Namespace(
        data=str(photos / "labelled"), run=None, backbone="shufflenet_v2", checkpoints=2, size=32
    )
    seconds, accuracy, encoder = judging.ours(options)
    assert seconds > 0 and 0 <= accuracy <= 1 and encoder.dim
    assert "2 encoders, 50 images of 32 px" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # pytorch_lightning's, of lightly's frozen network and of its own use of torch
def test_lightly_judges_the_same_encoder(photos):
    pytest.importorskip("lightly", reason="lightly is not installed (extra bench)")
    from lilliput import catalog

    encoder = catalog.backbone_builder("shufflenet_v2")()
    assert 0 <= judging.lightly(encoder, str(photos / "labelled"), 32, 1) <= 1


def test_the_memory_of_a_run_is_some_hundred_mebibytes(photos):
    assert 100 < memory.peak_mib("rotnet", "shufflenet_v2", str(photos / "pool"), size=32, batch=2) < 4096


def test_both_ways_of_augmenting_are_timed():
    ours, torchvisions = augment.views_per_s(32, count=2, times=1)
    assert ours > 0 and torchvisions > 0


def test_cleaning_compares_an_encoder_pixels_and_a_perceptual_hash(photos, finished_run, tmp_path):
    pytest.importorskip("imagehash", reason="imagehash is not installed (extra bench)")
    options = argparse.Namespace(
        data=str(photos / "labelled/train"), encoders=[finished_run], strange=[str(photos / "pool")], count=40, seed=0
    )
    rows = list(cleaning.measured(tmp_path, options))
    assert [(row.problem, row.by) for row in rows if row.problem != "off topic"] == [
        *(("copies", "run"), ("labels", "run"), ("labels", "run")),
        *(("copies", "pixels"), ("copies", "imagehash (and mirrored)"), ("labels", "pixels"), ("labels", "pixels")),
    ]
    assert all(0 <= share <= 1 for row in rows for share in (row.precision, row.recall, row.average_precision))
    assert cleaning.table(rows).count("\n") == 1 + len(rows)


def test_precision_and_recall_of_a_ranking_by_hand():
    right, score = np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0])
    row = cleaning._row("p", "q", "r", 9, 4, right, score, score >= 2)
    assert (row.found, row.precision, row.recall) == (3, 0.667, 0.5)
    assert row.average_precision == round((1 + 2 / 3) / 4, 3)  # two of the four were never proposed


KILLED_ONCE = """
work = faults.Work("rotnet", data, paged=False, epochs=2)
counts, seconds = faults.undisturbed(work, folder / "whole")
phase = faults.disturbed(work, folder / "out", random.Random(1), counts, seconds)
print("killed in", phase, "differences", faults.ended_otherwise(work, folder / "out", folder / "whole"))
"""


@pytest.mark.heavy
def test_a_killed_study_ends_with_the_same_bits(tmp_path):
    said = run_by_fork(KILLED_ONCE, tmp_path)
    assert re.fullmatch(r"killed in (training|saving|probing) differences \[\]\n", said), said


def test_the_kills_are_shared_by_the_techniques():
    assert faults.shares(5, ["rotnet", "byol"]) == [("rotnet", 2), ("byol", 3)]


KILLED_IN_ITS_CELL = """
work = load.Work(data, ["rotnet"], [0])
work(folder / "whole")
out = folder / "out"
print("kills and status", *load.killed_again_and_again(work, out, work.cells, 0.0, random.Random(0)))
print(faults.measured_rows(out) == faults.measured_rows(folder / "whole"))
"""


def test_a_study_killed_in_its_cell_has_the_rows_of_an_undisturbed_one(tmp_path):
    assert run_by_fork(KILLED_IN_ITS_CELL, tmp_path).endswith("kills and status 1 0\nTrue\n")


def run_by_fork(script, folder):
    """What a script prints that forks: in a process of its own, since pytest's has threads. It has `data`, `folder`."""
    head = f"""
import random
from pathlib import Path
from benchmarks import faults, load
from lilliput import catalog
data = catalog.dataset("scenes")(image_size=32, limit=32, train_count=200, test_count=50)
folder = Path({str(folder)!r})
"""
    ended = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_shards_are_packed_served_and_measured_beside_the_store(photos, tmp_path):
    assert streaming.pack(photos / "pool", tmp_path / "shards", each=6) == 3
    with streaming.served(tmp_path / "shards") as address:
        for place in (str(photos / "pool"), f"{tmp_path}/shards/00{{0..2}}.tar", f"{address}/00{{0..2}}.tar"):
            figures = streaming.measured(place, size=16, batch=4)
            assert figures["images"] == 16 and figures["images_per_s"] > 0


def test_a_loss_that_ranks_accuracies_is_told_by_weight_and_whole():
    """Losses fall with accuracy within a weight; the larger weight's are all larger, until divided by weight^.4."""
    ends = [(0.1, 1.0, 0.2), (0.1, 0.8, 0.4), (0.4, 1.5, 0.3), (0.4, 1.3, 0.5)]
    rows = [{"weight": w, "rate": a, "loss": loss, "linear": a, "knn": 1 - a} for w, loss, a in ends]
    rows.append({"weight": 0.4, "rate": 3.0, "failed": "the loss is not a number"})
    *_, plain, divided, light, heavy, _, last = loss_ranks.told(rows).splitlines()
    assert plain.startswith("| as it is | +0.00 (") and divided.startswith("| / weight^.4 | +1.00 (")
    assert light == "| at weight 0.1, 2 rates | +1.00 | -1.00 |" and heavy.endswith("| +1.00 | -1.00 |")
    assert last == "means over seeds; 1 of 5 trainings failed"


def test_cells_wait_for_the_place_that_is_free_first():
    """3 | 2, then the other 2 behind the first 2, then 1 behind 3; two GPUs a cell halve all."""
    assert large.wall([3, 2, 2, 1], gpus=2, gpus_a_cell=1) == 4
    assert large.wall([3, 2, 2, 1], gpus=2, gpus_a_cell=2) == 4
    assert large.wall([3, 2, 2, 1], gpus=4, gpus_a_cell=1) == 3


def test_a_large_study_is_reckoned_from_passes_and_public_speeds(monkeypatch):
    monkeypatch.setattr(large, "passes", lambda: {"simclr": 2.0})
    monkeypatch.setattr(large, "AT_224", {"resnet18": 100.0})
    (hours,) = large.cells_of(large.Large("one", images=3600, epochs=2, seeds=1, gpus_a_cell=1))
    assert hours == 2 * 2 / 400
    monkeypatch.undo()
    assert large.passes()["simclr"] == 2 and large.passes()["moco_v2"] < 2 < large.passes()["byol"]


def test_costs_are_those_of_the_quickest_epoch_scaled_to_the_study(rotnet_study, monkeypatch):
    """The study has 48 images and three epochs: six times the 24 images of the epochs that are looked at. Energy is the
    power of the whole run, what comes once an epoch included, over the seconds of training."""
    logs = []

    def log_of(run):
        logs.append((read_log(run), read_run(run)))
        ends = [(9.0, 10.0, 0.5, 5.0), (3.0, 15.0, 0.75, 9.0), (2.0, 18.0, 1.0, 13.0), (8.0, 30.0, 1.5, 25.0)]
        names = ("seconds", "total_seconds", "kwh", "grams_co2")
        return [
            {**dict(zip(names, end, strict=True)), "images_per_s": 24 / end[0], "peak_memory_mib": 1.0} for end in ends
        ]

    monkeypatch.setattr(costs, "read_log", log_of)
    study = read_study(rotnet_study)
    study["backbone_options"]["shufflenet_v2"] = {"stem": "quarter"}
    row = costs.cost_of(study, "rotnet", "shufflenet_v2", "scenes", 24)
    ((log, run),) = logs
    assert (len(log), log[0]["steps"], run["backbone_options"]["stem"]) == (4, 24 // 16, "quarter")
    assert (row["seconds"], row["images_per_s"]) == (12.0, 12.0)  # 48 x 3 / 24 = 6 times
    assert (row["kwh"], row["grams_co2"]) == pytest.approx((12.0 / 20, 12.0))  # 1 kWh, 20 g in 20 s
    assert "| RotNet | shufflenet_v2 | 12.0 | 0.2 | 600.0 | 12.0 | 1 |" in costs.table([row])


def test_of_two_measurements_of_a_cost_the_quicker_counts(rotnet_study, tmp_path, monkeypatch):
    (tmp_path / "study.json").write_bytes((rotnet_study / "study.json").read_bytes())
    told, asked = iter([(3.0, "a"), (2.0, "a"), (4.0, "a"), (5.0, "b")]), []

    def measured(technique, backbone, options):
        asked.append((technique, backbone))
        seconds, machine = next(told)
        return {"technique": technique, "backbone": backbone, "seconds": seconds, "machine": machine, "commit": "c"}

    for name in ("wait_until_idle", "table"):
        monkeypatch.setattr(costs, name, lambda *_: None)
    monkeypatch.setattr(costs, "_in_own_process", measured)
    again = ["--again"]
    for more, count, kept in (([], 1, 3.0), ([], 1, 3.0), (again, 2, 2.0), (again, 3, 2.0), (again, 4, 5.0)):
        monkeypatch.setattr(sys, "argv", ["costs", str(tmp_path), "--data", "scenes", *more])
        costs.main()
        (row,) = pd.read_csv(tmp_path / "costs.csv").to_dict("records")
        assert (len(asked), row["seconds"]) == (count, kept)
    assert set(asked) == {("rotnet", "shufflenet_v2")}


def test_a_module_begins_anew_with_the_commands_memory_settings(monkeypatch):
    begun = []
    monkeypatch.setattr(throughput.os, "execve", lambda *words: begun.append(words))
    monkeypatch.setattr(sys, "argv", ["judging", "--data"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    throughput.run_as_the_command("benchmarks.judging")
    ((_, words, environment),) = begun
    assert words[1:] == ["-m", "benchmarks.judging", "--data"] and environment["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", environment["GLIBC_TUNABLES"])
    throughput.run_as_the_command("benchmarks.judging")
    assert len(begun) == 1
