"""Saved states: whatever is damaged or lost beside them, the run goes on to the same bits."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from lilliput import api
from lilliput.errors import Unreadable
from lilliput.system import files, records
from lilliput.training import run as training_run
from lilliput.training.loop import Learner
from lilliput.training.record import read_log
from lilliput.training.state import newest_state, states
from tests.conftest import NARROW, flip_bit, interrupt_at, saved_bits


@pytest.mark.parametrize("old, new", [(b'"epoch": 2', b'"epmch": 2'), (b'"epoch": 2', b'"epoch": "'), (b"{", b"[")])
def test_a_log_without_rows_of_ours_is_restored_too(finished_run, killed_run, scenes, old, new):
    content = (killed_run / "log.jsonl").read_bytes()
    (killed_run / "log.jsonl").write_bytes(content.replace(old, new))
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert saved_bits(killed_run) == saved_bits(finished_run)


def test_what_cannot_be_read_is_not_taken_for_damaged(killed_run, scenes, finished_run, monkeypatch):
    """A disk or a server that does not answer for a moment once threw both states away."""
    real = files.opened

    def opened(path):
        if Path(path).name.startswith("state"):
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "opened", opened)
        with pytest.raises(Unreadable, match=r"cannot read .*state_001.*Input/output error"):
            api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert not list(killed_run.glob("*.damaged-*"))
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert saved_bits(killed_run) == saved_bits(finished_run)


def test_a_state_too_many_goes_with_the_next_call(finished_run, scenes, tmp_path):
    """Of a run that was killed between its last state and the removal of the one before the last but one."""
    out = shutil.copytree(finished_run, tmp_path / "run")
    shutil.copy(out / "state_002.safetensors", out / "state_001.safetensors")
    api.pretrain("simclr", "resnet18", scenes, out, **NARROW)
    assert saved_bits(out) == saved_bits(finished_run)


def test_a_damaged_state_is_set_aside_and_the_one_before_goes_on_to_the_same_bits(
    finished_run, killed_run, scenes, capsys
):
    assert [path.name for path in states(killed_run)] == ["state_000.safetensors", "state_001.safetensors"]
    flip_bit(states(killed_run)[-1])
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert saved_bits(killed_run) == saved_bits(finished_run)
    assert (killed_run / "state_001.safetensors.damaged-1").exists() and "state_001" in capsys.readouterr().err


def test_a_run_whose_states_are_all_damaged_begins_anew(finished_run, killed_run, scenes):
    for path in states(killed_run):
        path.write_bytes(path.read_bytes()[:1000])
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert saved_bits(killed_run) == saved_bits(finished_run)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("name", ["run.json", "log.jsonl"])
def test_damaged_settings_and_logs_are_restored_from_the_state(name, damage, finished_run, killed_run, scenes):
    path = killed_run / name
    before = path.read_bytes()
    if damage == "flipped":
        flip_bit(path, 20)  # in the first row: what comes after the state is done again
    elif damage == "cut":
        path.write_bytes(before[:20])
    else:
        path.unlink()
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert saved_bits(killed_run) == saved_bits(finished_run)
    assert len(read_log(killed_run)) == 3 and records.read_json(killed_run / "run.json")["technique"] == "simclr"
    assert (killed_run / f"{name}.damaged-1").exists() == (damage != "gone")


def write_in_first_format(run):
    """Log and settings stood in files of their own alone, and there was one state."""
    state = newest_state(run)
    header = {"format": 1, "epoch": state.epoch, "scaler": state.scaler, "technique": "simclr"}
    save_file(state.tensors, run / "state.safetensors", {"lilliput": json.dumps(header)})
    record = {**records.read_json(run / "run.json"), "format": 1}
    recipe = record["recipe_settings"]
    recipe["warmup"] /= recipe["epochs"]  # a share of training
    (run / "run.json").write_text(json.dumps(record))
    for path in run.glob("state_*"):
        path.unlink()


def test_a_run_of_the_first_format_goes_on_to_the_same_bits(finished_run, killed_run, scenes):
    write_in_first_format(killed_run)
    api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)
    assert saved_bits(killed_run)["encoder_003.safetensors"] == saved_bits(finished_run)["encoder_003.safetensors"]


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_log_of_the_first_format_that_is_lost_or_cut_costs_its_rows_and_no_epochs(
    damage, scenes, tmp_path, monkeypatch
):
    settings = {**NARROW, "epochs": 4}
    whole = api.pretrain("simclr", "resnet18", scenes, tmp_path / "whole", **settings)
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, training_run, "save_state", 4)  # that of epoch 3
        api.pretrain("simclr", "resnet18", scenes, out, **settings)
    write_in_first_format(out)
    first, *_ = (out / "log.jsonl").read_bytes().splitlines(keepends=True)
    if damage == "lost":
        (out / "log.jsonl").unlink()
    else:
        (out / "log.jsonl").write_bytes(first + b'{"epoch": 2, "lo')
    steps, usual = [], Learner.step
    monkeypatch.setattr(Learner, "step", lambda *arguments: (steps.append(1), usual(*arguments))[1])
    api.pretrain("simclr", "resnet18", scenes, out, **settings)
    assert len(steps) == 2 * (48 // 16)  # epochs 3 and 4
    assert [row["epoch"] for row in read_log(out)] == ([3, 4] if damage == "lost" else [1, 3, 4])
    assert saved_bits(out)["encoder_004.safetensors"] == saved_bits(whole)["encoder_004.safetensors"]
