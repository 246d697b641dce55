"""Trainings of equal seconds: how fast they are, what is known of them, and that lightly's side is fair."""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest
import torch

from benchmarks import (
    learning,
    levers,
    peer,
    speeds,
    throughput,
)
from benchmarks.levers import Trial, own_settings
from benchmarks.speeds import Speed
from lilliput.training.cell import make_cell
from lilliput.training.encoders import load_encoder
from tests.benchmarks.conftest import case_of, needs_lightly


@pytest.fixture
def measured_here(monkeypatch):
    """Speeds are measured in this process, whatever else the machine does; the words and sides of those that were."""
    asked = []

    def run(command, env, **_):
        asked.append((command, env))
        found = learning.measured_speed(Trial(**json.loads(command[-1])))
        return argparse.Namespace(returncode=0, stdout=f"said before\n{json.dumps(found)}\n")

    monkeypatch.setattr(speeds, "wait_until_idle", lambda: asked.append("waited"))
    monkeypatch.setattr(speeds, "_busy", lambda: 0.0)
    monkeypatch.setattr(speeds.subprocess, "run", run)
    return asked


def trial_of(photos, technique, backbone, settings, seconds=0.001, **more):
    return Trial(str(photos / "labelled"), technique, backbone, 0, 32, seconds, settings, **more)


def speeds_of(trials, out):
    for trial in trials:
        learning.known_speed(trial, out, may_measure=True)


def test_a_taught_trial_gives_half_of_its_seconds_to_a_teacher_that_others_share(
    photos, tmp_path, monkeypatch, measured_here
):
    monkeypatch.setitem(levers.LEVERS, "distilled", {"teacher": "simclr squeezenet"})
    settings = own_settings("distil", "shufflenet_v2", levers.LEVERS["distilled"])
    trial = trial_of(photos, "distil", "shufflenet_v2", settings, seconds=0.01)
    assert trial.own_seconds == 0.005 and learning.steps_a_part(trial, Speed(6400 * 8, {}), batch=32) == 1
    trials = [trial, replace(trial, backbone="squeezenet"), replace(trial, images_digest="others")]
    with pytest.raises(SystemExit, match=r"no speed of .*distil.*: measure it first, by --speeds"):
        learning._in_this_process(trial, tmp_path, [8], test=False)
    speeds_of([*trials, learning.teacher_trial(trial)], tmp_path)
    learning._in_this_process(trial, tmp_path, [8], test=False)
    (kept,) = (tmp_path / "teachers").iterdir()
    untrained, taught = make_cell("simclr", "squeezenet").build_encoder().state_dict(), load_encoder(kept).state_dict()
    assert any(not torch.equal(untrained[name], taught[name]) for name in taught)
    written = kept.read_bytes()
    learning._in_this_process(trials[1], tmp_path, [8], test=False)
    assert kept.read_bytes() == written and len(list(kept.parent.iterdir())) == 1
    learning._in_this_process(trials[2], tmp_path, [8], test=False)
    assert len(list(kept.parent.iterdir())) == 2
    rows = learning.rows_of(tmp_path)
    assert [row["backbone"] for row in rows] == ["shufflenet_v2", "squeezenet", "shufflenet_v2"]
    assert all(row["knn"] > 0 for row in rows)


def test_a_speed_is_that_of_the_quickest_window_kept_with_its_plan(photos, tmp_path, measured_here, monkeypatch):
    monkeypatch.setattr(learning, "measured_speed", lambda trial: {"windows": [4.0, 9.0, 2.0], "plan": {"threads": 1}})
    theirs = {"by": "lightly", "recipe": "cifar10", "batch": 4}
    ours, theirs = (trial_of(photos, "simclr", "squeezenet", own) for own in ({}, theirs))
    found = [learning.known_speed(trial, tmp_path, may_measure=True) for trial in (ours, theirs, ours)]
    assert found == [Speed(9.0, {"threads": 1})] * 3
    waited, (_, environment), also, (_, as_it_comes) = measured_here
    assert waited == also == "waited" and "GLIBC_TUNABLES" in environment and "GLIBC_TUNABLES" not in as_it_comes
    monkeypatch.setattr(speeds, "machine", lambda: "another")
    assert learning.known_speed(ours, tmp_path).images_per_s == 9.0
    with pytest.raises(SystemExit, match=r"speeds\.json has the speeds of .* and this is another"):
        learning.known_speed(replace(ours, size=48), tmp_path, may_measure=True)
    (tmp_path / "speeds.json").write_text('{"a trial": 86.6}')
    with pytest.raises(SystemExit, match=r"speeds\.json is of an earlier form"):
        learning.known_speed(ours, tmp_path)


def test_windows_go_on_until_the_two_quickest_agree(monkeypatch):
    def rates(*values):
        told = iter(values)
        monkeypatch.setattr(throughput, "images_per_s", lambda steps, drained: next(told))
        return speeds.windows(iter(()), drained=2)

    assert rates(10.0, 10.0, 7.0, 99.0) == [10.0, 10.0, 7.0]
    assert rates(10.0, 8.0, 7.0, 9.8, 99.0) == [10.0, 8.0, 7.0, 9.8]
    assert len(rates(*(2.0**number for number in range(99)))) == speeds.MOST


def test_a_speed_beside_other_work_is_measured_once_more(photos, tmp_path, measured_here, monkeypatch, capsys):
    """Of 10 s on the cores in each of three runs, the child had 1, 9 and 9.6."""
    busy, own = iter([0, 10, 20, 30, 40, 50]), iter([0, 1, 1, 10, 10, 19.6])
    monkeypatch.setattr(speeds, "_busy", lambda: next(busy))
    monkeypatch.setattr(speeds, "_of_children", lambda: next(own))
    learning.known_speed(trial_of(photos, "simclr", "squeezenet", {"batch": 4}), tmp_path, may_measure=True)
    assert measured_here.count("waited") == 3 and capsys.readouterr().out.count("once more") == 2


def test_two_that_ask_for_a_speed_measure_it_once(photos, tmp_path, measured_here):
    trial = trial_of(photos, "simclr", "squeezenet", {"batch": 4})
    with ThreadPoolExecutor() as pool:
        with speeds.alone(tmp_path / "speeds.lock"):
            asked = [pool.submit(learning.known_speed, trial, tmp_path, may_measure=True) for _ in range(2)]
            assert wait(asked, timeout=0.5).not_done == set(asked) and measured_here == []
            known = {"machine": speeds.machine(), "speeds": {trial.paced_by: {"windows": [5.0], "plan": {}}}}
            (tmp_path / "speeds.json").write_text(json.dumps(known))
        assert [future.result(60) for future in asked] == [Speed(5.0, {})] * 2 and measured_here == []


def test_two_calls_do_not_train_one_trial_at_once(photos, tmp_path, monkeypatch, measured_here, capsys):
    words = ["learning", "--data", str(photos / "labelled"), "--techniques", "simclr", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*words, "--backbones", "squeezenet", "--seeds", "0", "1", "--size", "32"])
    begun = []
    monkeypatch.setattr(learning, "_in_own_process", lambda trial, options, lock: begun.append(trial.seed))
    held = learning.json_digest(next(learning._trials("as it is", learning._parsed())).key)[:12]
    with speeds.alone(tmp_path / "locks" / held):
        learning.main()
    assert begun == [1]


def test_a_trial_trains_by_the_plan_of_its_speed(photos, tmp_path, measured_here, monkeypatch):
    plan = {"precision": "fp32", "channels_last": False, "threads": 1}
    monkeypatch.setattr(learning, "measured_speed", lambda trial: {"windows": [4.0], "plan": plan})
    trained, parts_of = [], learning.parts_of

    def watched(learner, *given, **named):
        trained.append((learner.plan.channels_last, torch.get_num_threads()))
        return parts_of(learner, *given, **named)

    monkeypatch.setattr(learning, "parts_of", watched)
    trial = trial_of(photos, "simclr", "squeezenet", {"batch": 4})
    speeds_of([trial], tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        learning._in_this_process(trial, tmp_path, [8], test=False)
    finally:
        torch.set_num_threads(before)
    assert trained == [(False, 1)] and learning.rows_of(tmp_path)[0]["plan"] == plan


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

    def run(command, env, pass_fds):
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

    monkeypatch.setattr(learning, "known_speed", lambda *_, **__: Speed(1.0, {}))
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


def test_a_trial_by_lightly_takes_its_steps_on_the_same_files(photos, tmp_path, measured_here):
    needs_lightly()
    data = tmp_path / "data"
    data.mkdir()
    for name, own in {"Training": "labelled/train", "testing": "labelled/test", "unlabelled": "pool"}.items():
        (data / name).symlink_to(photos / own)
    told = {"by": "lightly", "recipe": "imagenette", "batch": 4}
    settings = own_settings("moco_v2", "shufflenet_v2", told)
    assert settings == told
    trial = Trial(str(data), "moco_v2", "shufflenet_v2", 0, 32, 0.001, settings)
    speeds_of([trial], tmp_path)
    learning._in_this_process(trial, tmp_path, [4, 8], test=False)
    (half, whole) = learning.rows_of(tmp_path)
    assert (half["share"], whole["share"], whole["steps"], whole["loss"]) == (0.5, 1.0, 8, None)
    assert half["rank"] != whole["rank"]
    with pytest.raises(SystemExit, match=r"lightly reads 56 images below .*Training, .*unlabelled, Lilliput 55"):
        learning.lightly_of(trial, 55)


@pytest.mark.parametrize("recipe", peer.DOCUMENTED)
@pytest.mark.parametrize("technique", peer.DOCUMENTED["examples"].built)
def test_lightlys_network_is_shown_pixels_as_ours_is(technique, recipe, photos):
    """It normalises them itself; normalised before, they would be trained on as they are never judged."""
    needs_lightly()
    network = peer.plain_network("squeezenet").eval()
    transform, *_ = peer.DOCUMENTED[recipe].built[technique](network, 32)
    network.eval()
    views = torch.stack([view for (views, *_) in peer.images_of([photos / "pool"], transform) for view in views])
    assert views.min() >= 0 and views.max() <= 1 and views.mean() > 0.1 and views.shape == (32, 3, 32, 32)
    convolution = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
    shown = []
    convolution.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    network(views)
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    assert torch.allclose(shown[0], (views - mean) / std, atol=1e-5)


def test_lightlys_network_is_of_torchs_own_layers():
    for backbone in ("resnet18", "mobilenet_v2", "shufflenet_v2"):
        own = [type(layer).__name__ for layer in peer.plain_network(backbone).modules()]
        assert "Conv2d" in own and not {"DepthwiseConv2d", "OnePlaceConv2d"} & set(own)


def test_lightlys_benchmarks_are_as_its_repository_has_them(monkeypatch):
    """docs/source/getting_started/benchmarks/{cifar10,imagenette}_benchmark.py, read by hand."""
    needs_lightly()
    from lightly import loss, transforms

    told = {}
    names = {
        "NTXentLoss": loss,
        **dict.fromkeys(("SimCLRTransform", "BYOLView1Transform", "BYOLView2Transform"), transforms),
    }
    for name, module in names.items():
        kind = getattr(module, name)

        def build(*given, kind=kind, name=name, **named):
            told[name] = named
            return kind(*given, **named)

        monkeypatch.setattr(module, name, build)
    for recipe, moco, byol, blur in (("cifar10", 512, 1024, 0.0), ("imagenette", 2048, 4096, 0.5)):
        known = peer.DOCUMENTED[recipe]
        assert (known.momentum, known.weight_decay, known.cosine) == (0.9, 5e-4, True)
        assert known.rate / known.rate_of * 128 == (0.06 if recipe == "cifar10" else 0.03)
        for technique, hidden in (("simclr", 512), ("moco_v2", moco), ("byol", byol)):
            told.clear()
            _, model, _ = known.built[technique](peer.plain_network("resnet18"), 64)
            widths = [layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
            assert widths == [hidden, 256] * 2 if technique == "byol" else widths == [hidden, 128]
            split = {getattr(layer, "groups", 1) for layer in model.modules() if "BatchNorm2d" in type(layer).__name__}
            assert split == ({8} if (recipe, technique) == ("cifar10", "moco_v2") else {1})
            if technique == "moco_v2":
                assert told["NTXentLoss"] == {"temperature": 0.1, "memory_bank_size": (4096, 128)}
            if technique == "simclr":
                assert told["NTXentLoss"] == {}
            if technique != "byol":
                assert (told["SimCLRTransform"]["cj_strength"], told["SimCLRTransform"]["gaussian_blur"]) == (0.5, blur)
        assert told["BYOLView1Transform"]["gaussian_blur"] == 2 * blur
        assert told["BYOLView2Transform"]["gaussian_blur"] == blur / 5


def test_lightlys_moco_learns_from_both_views_as_queries():
    needs_lightly()
    for recipe, passes in (("examples", 1), ("cifar10", 2)):
        _, model, loss_of = peer.DOCUMENTED[recipe].built["moco_v2"](peer.plain_network("squeezenet"), 32)
        asked = []
        model.register_forward_pre_hook(lambda module, given, asked=asked: asked.append(given[0]))
        one, two = torch.rand(2, 4, 3, 32, 32)
        loss_of(one, two)
        assert len(asked) == passes and asked[0] is one and asked[-1] is (one, two)[passes - 1]


def test_lightlys_seed_is_the_trials(photos):
    needs_lightly()

    def trained(seed):
        _, steps, encoder = peer.lightly(replace(case_of(photos), seed=seed), "cifar10", steps=4)
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
    _, steps, _ = peer.lightly(case_of(photos), "imagenette", steps=4)
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
