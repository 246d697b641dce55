"""A run: the same bits however often it is interrupted."""

import json
import signal
import time
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from lilliput import api, load_encoder
from lilliput.errors import BadSetting, LilliputError
from lilliput.probes import measure_batch_norm
from lilliput.system import signals
from lilliput.system.resources import Resources
from lilliput.training import loop
from lilliput.training import run as training_run
from lilliput.training.cell import make_cell
from lilliput.training.record import read_log
from lilliput.training.state import states
from lilliput.training.stopping import Until
from tests.commands import Command, lilliput
from tests.conftest import CPU, NARROW, PLAN, TECHNIQUES, heavy, interrupt_at, measured_log, saved_bits


@pytest.mark.parametrize("technique", ["byol", *heavy("rotnet", "moco_v2", "split_brain", "simclr")])
def test_the_same_seed_gives_the_same_bits(technique, scenes, tmp_path):
    runs = [api.pretrain(technique, "shufflenet_v2", scenes, tmp_path / name, **NARROW) for name in ("a", "b")]
    assert saved_bits(runs[0]) == saved_bits(runs[1])


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(technique, scenes, tmp_path, monkeypatch):
    whole = api.pretrain(technique, "resnet18", scenes, tmp_path / "whole", **NARROW)

    # as if killed at the worst moments: after an encoder was written, before the state was; then before the log was
    for function, call in (("save_state", 3), ("write_log", 2)):
        with monkeypatch.context() as patch:
            interrupt_at(patch, training_run, function, call)
            with pytest.raises(KeyboardInterrupt):
                api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **NARROW)
    cut = api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **NARROW)
    assert saved_bits(cut) == saved_bits(whole)
    assert measured_log(cut) == measured_log(whole)
    assert [row["epoch"] for row in read_log(cut)] == [1, 2, 3]


def test_a_run_begun_without_fp16_goes_on_with_it(killed_run, scenes, monkeypatch):
    """The saved state of a scaler that is off is empty, which one that is on refused to read."""
    scaler = partial(torch.amp.GradScaler, "cpu", init_scale=1.0)  # on, though fp16 is for accelerators
    monkeypatch.setattr(loop.torch.amp, "GradScaler", lambda *_, **__: scaler())
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert [row["epoch"] for row in read_log(killed_run)] == [1, 2, 3]


def test_a_run_killed_outright_goes_on_with_the_same_command(photos, tmp_path):
    """SIGKILL in the middle of training, by the command line, as a user's machine would."""
    numbers = {"epochs": 12, "batch": 16, "width": 0.25, "every": 4, "device": "cpu"}
    settings = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    settings += ["--plan", *(f"{name}={value}" for name, value in PLAN.items())]
    words = ["pretrain", "simclr", "resnet18", "--data", photos, *settings, "--out"]
    assert lilliput(*words, tmp_path / "whole").returncode == 0
    with Command(*words, tmp_path / "cut") as killed:
        for _ in range(3000):
            time.sleep(0.02)
            if len(read_log(tmp_path / "cut")) >= 3:
                break
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert 3 <= len(read_log(tmp_path / "cut")) < 12
    again = lilliput(*words, tmp_path / "cut")
    assert again.returncode == 0 and "goes on after epoch" in again.stderr
    assert saved_bits(tmp_path / "cut") == saved_bits(tmp_path / "whole")


def test_what_has_seen_pieces_of_images_is_saved_with_the_batch_norm_of_whole_ones(scenes, tmp_path):
    run = api.pretrain("jigsaw", "shufflenet_v2", scenes, tmp_path / "run", **{**NARROW, "epochs": 2, "every": 1})
    saved = load_encoder(run / "encoder_001.safetensors")
    before = {name: own.clone() for name, own in saved.state_dict().items()}
    measure_batch_norm(saved, scenes.pool, plan=CPU)
    after = saved.state_dict()
    torch.testing.assert_close({name: after[name] for name in before}, before, rtol=1e-4, atol=1e-5)
    trained = {name.partition("encoder.")[2]: own for name, own in load_file(run / "state_001.safetensors").items()}
    name = next(name for name in before if name.endswith("running_mean"))
    assert not torch.allclose(trained[name], before[name], rtol=1e-2)


def test_a_finished_run_is_not_run_again(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    api.pretrain("simclr", "resnet18", scenes, out, **NARROW)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")} == before


def test_a_seed_repeats_a_run_and_another_does_not(scenes, tmp_path):
    options = {**NARROW, "epochs": 1}
    first, again, reseeded = (
        saved_bits(api.pretrain("simclr", "resnet18", scenes, tmp_path / name, **options, seed=seed))
        for name, seed in (("first", 0), ("again", 0), ("reseeded", 1))
    )
    assert first == again
    assert first["encoder_000.safetensors"] != reseeded["encoder_000.safetensors"]


def test_a_device_that_is_not_there_is_named(scenes, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test needs absent")
    with pytest.raises(BadSetting, match="cuda"):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", device="cuda")


def test_an_unwritable_folder_is_named(scenes, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LilliputError, match="cannot write"):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "file" / "run", **NARROW)


def test_a_run_that_goes_on_keeps_its_plan_unless_told(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    states(out)[-1].unlink()  # so that there is something to do again
    api.pretrain("simclr", "resnet18", scenes, out, **{**NARROW, "plan": None})
    assert json.loads((out / "run.json").read_text())["plan"]["precision"] == "fp32"
    states(out)[-1].unlink()
    api.pretrain("simclr", "resnet18", scenes, out, **{**NARROW, "plan": {"precision": "bf16"}})
    assert json.loads((out / "run.json").read_text())["plan"]["precision"] == "bf16"


def test_a_run_that_pauses_at_an_epoch_and_at_a_moment_ends_with_the_same_bits(scenes, tmp_path):
    cell = make_cell("simclr", "resnet18", epochs=3, batch=16, options={"width": 0.25}, data=scenes)
    pretrain = partial(training_run.pretrain, cell, scenes, every=1, resources=Resources("cpu", PLAN))
    whole, cut = pretrain(tmp_path / "whole"), pretrain(tmp_path / "cut", until=Until(1))
    assert [row["epoch"] for row in read_log(cut)] == [1]
    assert pretrain(cut, until=Until(1)) == cut and len(read_log(cut)) == 1  # there is nothing more to do
    with pytest.raises(signals.Stopped, match="all of it saved"):
        pretrain(cut, until=Until(moment=time.time()))
    assert pretrain(cut, until=Until(2)) == cut and len(read_log(cut)) == 2
    assert saved_bits(pretrain(cut)) == saved_bits(whole)
    assert measured_log(cut) == measured_log(whole)
