"""Every benchmark runs: its core for a step or two on tiny data, so that none is left behind when the package moves."""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    augment,
    cleaning,
    costs,
    faults,
    judging,
    large,
    learning,
    levers,
    loss_ranks,
    memory,
    peer,
    scaling,
    speeds,
    streaming,
    throughput,
    time_to_accuracy,
)
from benchmarks.levers import Trial, own_settings
from benchmarks.peer import Case
from benchmarks.speeds import Speed
from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.engines.processes import in_turn
from lilliput.studies.record import read_study
from lilliput.training.cell import make_cell
from lilliput.training.encoders import load_encoder
from lilliput.training.record import read_log

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


@pytest.mark.parametrize("side", throughput.SIDES)
@pytest.mark.parametrize("technique", peer.EXAMPLES.built)
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


@pytest.mark.parametrize("side", ["ours", "lightly"])
def test_both_sides_are_judged_before_and_while_they_learn(side, photos):
    if side == "lightly":
        needs_lightly()
    budget = time_to_accuracy.Budget(minutes=1e-6, share=1.0, limit=8, batch=4)
    untrained, *trained = time_to_accuracy.curve(side, case_of(photos), budget, str(photos / "labelled"))
    assert (untrained["seconds"], untrained["images"]) == (0.0, 0)
    assert trained and all(
        0 <= point["linear"] <= 1 and 0 <= point["knn"] <= 1 and point["images"] > 0 for point in trained
    )


def test_a_row_of_time_says_when_each_side_was_as_good_as_lightly_at_its_best(photos):
    def points(*pairs):
        return [{"seconds": seconds, "linear": accuracy, "knn": 0.0} for seconds, accuracy in pairs]

    lightly = points((0, 0.2), (50, 0.4), (100, 0.3))
    ours = points((0, 0.2), (10, 0.3), (20, 0.45))
    row = time_to_accuracy.row(case_of(photos), {"lightly": lightly, "ours": ours}, "linear")
    assert row == "| simclr | shufflenet_v2 | linear | 0.200 | 0.400 | 50 | 20 | 0.40 | 0.450 after 20 s |"
    row = time_to_accuracy.row(case_of(photos), {"lightly": lightly, "ours": ours[:2]}, "linear")
    assert "| not | – | 0.300 after 10 s |" in row


@pytest.fixture
def measured_here(monkeypatch):
    """Speeds are measured in this process, whatever else the machine does; the words and sides of those that were."""
    asked = []

    def run(command, env, **_):
        asked.append((command, env))
        found = learning.measured_speed(Trial(**json.loads(command[-1])))
        return argparse.Namespace(returncode=0, stdout=f"said before\n{json.dumps(found)}\n")

    monkeypatch.setattr(speeds, "wait_until_idle", lambda: asked.append("waited"))
    monkeypatch.setattr(speeds.subprocess, "run", run)
    return asked


def trial_of(photos, technique, backbone, settings, seconds=0.001, **more):
    return Trial(str(photos / "labelled"), technique, backbone, 0, 32, seconds, settings, **more)


def test_a_taught_trial_gives_half_of_its_seconds_to_a_teacher_that_others_share(
    photos, tmp_path, monkeypatch, measured_here
):
    monkeypatch.setitem(levers.LEVERS, "distilled", {"teacher": "simclr squeezenet"})
    settings = own_settings("distil", "shufflenet_v2", levers.LEVERS["distilled"])
    trial = trial_of(photos, "distil", "shufflenet_v2", settings, seconds=0.01)
    assert trial.own_seconds == 0.005 and learning.steps_a_part(trial, Speed(6400 * 8, {}), batch=32) == 1
    learning._in_this_process(trial, tmp_path, [8], test=False)
    (kept,) = (tmp_path / "teachers").iterdir()
    untrained, taught = make_cell("simclr", "squeezenet").build_encoder().state_dict(), load_encoder(kept).state_dict()
    assert any(not torch.equal(untrained[name], taught[name]) for name in taught)
    written = kept.read_bytes()
    learning._in_this_process(replace(trial, backbone="squeezenet"), tmp_path, [8], test=False)
    assert kept.read_bytes() == written and len(list(kept.parent.iterdir())) == 1
    learning._in_this_process(replace(trial, images_digest="others"), tmp_path, [8], test=False)
    assert len(list(kept.parent.iterdir())) == 2
    rows = learning.rows_of(tmp_path)
    assert [row["backbone"] for row in rows] == ["shufflenet_v2", "squeezenet", "shufflenet_v2"]
    assert all(row["knn"] > 0 for row in rows)


def test_a_speed_is_the_median_of_windows_kept_with_its_plan(photos, tmp_path, measured_here, monkeypatch):
    monkeypatch.setattr(learning, "measured_speed", lambda trial: {"windows": [9.0, 2.0, 4.0], "plan": {"threads": 1}})
    ours, theirs = (trial_of(photos, "simclr", "squeezenet", own) for own in ({}, {"by": "lightly", "batch": 4}))
    found = [learning.known_speed(trial, tmp_path) for trial in (ours, theirs, ours)]
    assert found == [Speed(4.0, {"threads": 1})] * 3
    waited, (_, environment), also, (_, as_it_comes) = measured_here
    assert waited == also == "waited" and "GLIBC_TUNABLES" in environment and "GLIBC_TUNABLES" not in as_it_comes
    monkeypatch.setattr(speeds, "machine", lambda: "another")
    assert learning.known_speed(ours, tmp_path).images_per_s == 4.0
    with pytest.raises(SystemExit, match=r"speeds\.json has the speeds of .* and this is another"):
        learning.known_speed(replace(ours, size=48), tmp_path)


def test_a_trial_trains_by_the_plan_of_its_speed(photos, tmp_path, measured_here, monkeypatch):
    plan = {"precision": "fp32", "channels_last": False, "threads": 1}
    monkeypatch.setattr(learning, "measured_speed", lambda trial: {"windows": [4.0], "plan": plan})
    plans = []
    parts_of = learning.parts_of
    monkeypatch.setattr(
        learning, "parts_of", lambda learner, *a, **k: plans.append(learner.plan) or parts_of(learner, *a, **k)
    )
    learning._in_this_process(trial_of(photos, "simclr", "squeezenet", {"batch": 4}), tmp_path, [8], test=False)
    assert [plans[0].channels_last, plans[0].threads] == [False, 1]
    assert learning.rows_of(tmp_path)[0]["plan"] == plan


def test_a_trial_is_known_by_its_images_and_recipe_too(photos):
    one = trial_of(photos, "simclr", "squeezenet", {}, images_digest="a", recipe_digest="b")
    assert len({trial.key for trial in (one, replace(one, images_digest="c"), replace(one, recipe_digest="c"))}) == 3
    digests = {levers.digest_of_recipe("simclr", own) for own in ({}, {"recipe": "paper"})}
    assert len(digests | {levers.digest_of_recipe("byol", {})}) == 3
    taught = {levers.digest_of_recipe("distil", {"teacher": f"{name} resnet18"}) for name in ("simclr", "byol")}
    assert len(taught) == 2


def test_what_failed_is_tried_again_and_has_no_mean(photos, tmp_path, monkeypatch, capsys):
    words = ["learning", "--data", str(photos / "labelled"), "--techniques", "simclr", "--out", str(tmp_path)]
    words += ["--backbones", "squeezenet", "shufflenet_v2", "--seeds", "0", "1", "--size", "32"]
    tried = []

    def run(command, env):
        trial = Trial(**json.loads(command[command.index("--one") + 1]))
        tried.append((trial.backbone, trial.seed, "--test" in command))
        if tried.count(tried[-1]) == 1 and tried[-1] == ("squeezenet", 1, False):
            return argparse.Namespace(returncode=1)
        figures = {
            "share": 1.0,
            "linear": 0.4 + 0.2 * trial.seed,
            "knn": 0.3,
            **({"test": 0.5} if tried[-1][2] else {}),
        }
        learning._keep(tmp_path, trial, figures)
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(learning.subprocess, "run", run)
    for more, count, line in (
        ([], 4, "| – | 0.500 / 0.300 | – |"),
        ([], 1, "| 0.500 / 0.300 | 0.500 / 0.300 | 0.500 / 0.300 |"),
        (["--test"], 4, "| 0.500 / 0.300 | 0.500 / 0.300 | 0.500 / 0.300 |"),
        (["--test"], 0, "| 0.500 / 0.300 | 0.500 / 0.300 | 0.500 / 0.300 |"),
    ):
        before = len(tried)
        monkeypatch.setattr(sys, "argv", words + more)
        learning.main()
        assert len(tried) - before == count and line in capsys.readouterr().out
    assert sum("test" in row for row in learning.rows_of(tmp_path)) == 4


def needs_lightly():
    pytest.importorskip("lightly", reason="lightly is not installed (extra bench)")


def test_a_trial_by_lightly_takes_its_steps_on_the_same_files(photos, tmp_path, measured_here):
    needs_lightly()
    data = tmp_path / "data"
    data.mkdir()
    for name, own in {"Training": "labelled/train", "testing": "labelled/test", "unlabelled": "pool"}.items():
        (data / name).symlink_to(photos / own)
    settings = own_settings("moco_v2", "shufflenet_v2", {"by": "lightly", "batch": 4})
    assert settings == {"by": "lightly", "batch": 4}
    trial = Trial(str(data), "moco_v2", "shufflenet_v2", 0, 32, 0.001, settings)
    learning._in_this_process(trial, tmp_path, [4, 8], test=False)
    (half, whole) = learning.rows_of(tmp_path)
    assert (half["share"], whole["share"], whole["steps"], whole["loss"]) == (0.5, 1.0, 8, None)
    assert half["rank"] != whole["rank"]
    with pytest.raises(SystemExit, match=r"lightly reads 56 images below .*Training, .*unlabelled, Lilliput 55"):
        learning.lightly_of(trial, 55)


@pytest.mark.parametrize("recipes", [peer.EXAMPLES, peer.BENCHMARK], ids=["examples", "benchmark"])
@pytest.mark.parametrize("technique", peer.EXAMPLES.built)
def test_lightlys_network_is_shown_pixels_as_ours_is(technique, recipes, photos):
    """It normalises them itself; normalised before, they would be trained on as they are never judged."""
    needs_lightly()
    network = peer.plain_network("squeezenet")
    transform, *_ = recipes.built[technique](network, 32)
    views = torch.stack([view for (views, *_) in peer.images_of([photos / "pool"], transform) for view in views])
    assert views.min() >= 0 and views.max() <= 1 and views.mean() > 0.1 and views.shape == (32, 3, 32, 32)
    inputs = []
    network.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    network(views)
    assert inputs[0] is views


def test_lightlys_seed_is_the_trials(photos):
    needs_lightly()

    def trained(seed):
        _, steps, encoder = peer.lightly(replace(case_of(photos), seed=seed), peer.BENCHMARK, steps=4)
        next(steps)
        next(steps)
        steps.close()
        return encoder.state_dict()

    one, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_rate_of_lightlys_benchmark_falls_to_zero(photos, monkeypatch):
    needs_lightly()
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or step(self))
    _, steps, _ = peer.lightly(case_of(photos), peer.BENCHMARK, steps=4)
    for _ in range(4):
        next(steps)
    top = 0.06 * 4 / 256
    assert rates == pytest.approx([top, top * (1 + 0.5**0.5) / 2, top / 2, top * (1 - 0.5**0.5) / 2])


def test_a_trial_of_the_papers_recipe_takes_its_optimiser_and_rate():
    def recipe_of(technique):
        settings = own_settings(technique, "shufflenet_v2", levers.LEVERS["paper, batch 256"])
        return learning.learner_of(Trial("", technique, "shufflenet_v2", 0, 32, 1.0, settings)).recipe

    recipe = recipe_of("simclr")
    assert (recipe.optimiser, recipe.peak_rate, recipe.batch, recipe.zero_residuals) == ("lars", 0.3, 256, False)
    assert recipe_of("rotnet").batch == 128  # the paper's own, which is smaller


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


def test_costs_are_medians_of_epochs_scaled_to_the_study(rotnet_study, monkeypatch):
    """The study has 48 images and three epochs: six times the 24 images of the epochs that are looked at."""
    logs = []

    def log_of(run):
        logs.append(read_log(run))
        ends = [(9.0, 0.5, 5.0), (2.0, 0.75, 9.0), (2.0, 1.0, 13.0), (8.0, 1.5, 33.0)]
        alike = {"peak_memory_mib": 1.0}
        return [
            {**alike, "seconds": s, "images_per_s": 24 / s, "kwh": kwh, "grams_co2": grams} for s, kwh, grams in ends
        ]

    monkeypatch.setattr(costs, "read_log", log_of)
    study = read_study(rotnet_study)
    row = costs.cost_of(study, "rotnet", "shufflenet_v2", "scenes", 24)
    assert [len(logs[0]), logs[0][0]["steps"]] == [4, 24 // 16]
    assert (row["seconds"], row["kwh"], row["grams_co2"]) == (12.0, 1.5, 24.0)  # 48 x 3 / 24 = 6 times
    assert "| RotNet | shufflenet_v2 | 12.0 | 0.2 | 1500.0 | 24.0 | 1 |" in costs.table([row])


def test_a_module_begins_anew_with_the_commands_memory_settings(monkeypatch):
    begun = []
    monkeypatch.setattr(throughput.os, "execve", lambda *words: begun.append(words))
    monkeypatch.setattr(sys, "argv", ["costs", "STUDY"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    throughput.run_as_the_command("benchmarks.costs")
    ((_, words, environment),) = begun
    assert words[1:] == ["-m", "benchmarks.costs", "STUDY"] and environment["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", environment["GLIBC_TUNABLES"])
    throughput.run_as_the_command("benchmarks.costs")
    assert len(begun) == 1
