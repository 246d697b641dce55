"""Nothing lost, nothing believed blindly: damage, signals, rivals, limits, guards, verification."""

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import lilliput
from lilliput import api, catalog
from lilliput.datasets import open_data
from lilliput.errors import BadData, BadSetting, LilliputError, Unreadable
from lilliput.probes import score
from lilliput.probes.linear import linear
from lilliput.reports import compare
from lilliput.reports.page import page
from lilliput.reports.page.looks import looks_of, open_sample
from lilliput.studies import results, verification
from lilliput.system import files, locks, records, signals
from lilliput.system.plan import Plan
from lilliput.system.tensors import read_tensors
from lilliput.techniques import byol, moco_v2
from lilliput.training import guards, memory
from lilliput.training import run as runs
from lilliput.training.encoders import load_encoder
from lilliput.training.record import FORMAT, read_log, write_log
from lilliput.training.state import newest_state, save_state, states

TECHNIQUES = ("rotnet", "moco_v2", "split_brain", "simclr", "byol")
PLAN = {"precision": "fp32", "channels_last": True}
SMALL = {"epochs": 3, "batch": 16, "device": "cpu", "plan": PLAN, "every": 1}
TINY = {**SMALL, "width": 0.25}
ROOT = Path(__file__).parent.parent


def heavy(*values):
    return [pytest.param(value, marks=pytest.mark.heavy) for value in values]


def bits(run):
    """Of every encoder, and of the last state before the end."""
    files = sorted(run.glob("*.safetensors"))
    found = {path.name: read_tensors(path)[0] for path in files}
    return {name: {key: value.numpy().tobytes() for key, value in tensors.items()} for name, tensors in found.items()}


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    return api.pretrain("simclr", "resnet18", scenes, tmp_path_factory.mktemp("whole") / "run", **TINY)


@pytest.fixture
def cut(scenes, tmp_path, monkeypatch):
    """A run that was killed when the state of epoch 2 was about to be written."""
    with monkeypatch.context() as patch:
        dies_at(patch, runs, "save_state", 3)
        with pytest.raises(KeyboardInterrupt):
            api.pretrain("simclr", "resnet18", scenes, tmp_path / "cut", **TINY)
    return tmp_path / "cut"


def dies_at(patch, module, name, call):
    real, calls = getattr(module, name), itertools.count(1)

    def dies(*arguments, **named):
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    patch.setattr(module, name, dies)


def flip(path, place=None, bit=2):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1 << bit
    path.write_bytes(content)


# -- damage -----------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_of_an_encoder_goes_unseen(whole, tmp_path):
    content = (whole / "encoder_001.safetensors").read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 100).tolist()
    for place in [*range(64), *places]:
        path = tmp_path / "encoder.safetensors"
        path.write_bytes(content)
        flip(path, place)
        try:  # spaces between the header's words are the only bytes that mean nothing
            load_encoder(path)
            assert content[place : place + 1] == b" "
        except BadData as error:
            assert "encoder.safetensors" in str(error)


def test_a_cut_encoder_is_named(whole, tmp_path):
    content = (whole / "encoder_001.safetensors").read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "e.safetensors").write_bytes(content[:length])
        with pytest.raises(BadData, match=r"e\.safetensors"):
            load_encoder(tmp_path / "e.safetensors")


def test_a_pickle_is_refused_with_its_danger_and_the_way_out(tmp_path):
    for number, legacy in enumerate((True, False)):
        path = tmp_path / f"{number}.pt"
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(BadData, match=r"pickle.*any code.*save_file"):
            load_encoder(path)


@pytest.mark.parametrize("old, new", [(b'"epoch": 2', b'"epmch": 2'), (b'"epoch": 2', b'"epoch": "'), (b"{", b"[")])
def test_a_log_without_rows_of_ours_is_restored_too(whole, cut, scenes, old, new):
    content = (cut / "log.jsonl").read_bytes()
    (cut / "log.jsonl").write_bytes(content.replace(old, new))
    api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert bits(cut) == bits(whole)


def test_what_cannot_be_read_is_not_taken_for_damaged(cut, scenes, whole, monkeypatch):
    """A disk or a server that does not answer for a moment once threw both states away."""
    real = files.opened

    def opened(path):
        if Path(path).name.startswith("state"):
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "opened", opened)
        with pytest.raises(Unreadable, match=r"cannot read .*state_001.*Input/output error"):
            api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert not list(cut.glob("*.damaged-*"))
    api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert bits(cut) == bits(whole)


def test_a_state_too_many_goes_with_the_next_call(whole, scenes, tmp_path):
    """Of a run that was killed between its last state and the removal of the one before the last but one."""
    out = shutil.copytree(whole, tmp_path / "run")
    shutil.copy(out / "state_002.safetensors", out / "state_001.safetensors")
    api.pretrain("simclr", "resnet18", scenes, out, **TINY)
    assert bits(out) == bits(whole)


def test_drafts_of_the_dead_go_and_what_others_left_stays(tmp_path):
    names = ".run.json.123.tmp", ".thesis.tmp", ".log.jsonl.77.tmp", "a.123.tmp"
    for name in names:
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1, 1))
    os.utime(tmp_path / ".log.jsonl.77.tmp")  # being written at this moment, perhaps by another machine
    files.clear_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def test_what_an_epoch_cost_before_it_was_broken_off_is_counted(scenes, tmp_path, monkeypatch):
    out, steps = tmp_path / "run", itertools.count(1)

    def asked():
        time.sleep(0.3)
        return signal.SIGTERM if next(steps) == 2 else None

    monkeypatch.setattr(signals, "asked", asked)
    options = {**TINY, "epochs": 1}
    with pytest.raises(signals.Stopped, match="and 1 steps"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, out, **options)
    api.pretrain("rotnet", "shufflenet_v2", scenes, out, **options)
    (row,) = read_log(out)
    assert row["total_seconds"] >= row["seconds"] > 0.6


def test_a_damaged_state_is_set_aside_and_the_one_before_goes_on_to_the_same_bits(whole, cut, scenes, capsys):
    assert [path.name for path in states(cut)] == ["state_000.safetensors", "state_001.safetensors"]
    flip(states(cut)[-1])
    api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert bits(cut) == bits(whole)
    assert (cut / "state_001.safetensors.damaged-1").exists() and "state_001" in capsys.readouterr().err


def test_a_run_whose_states_are_all_damaged_begins_anew(whole, cut, scenes):
    for path in states(cut):
        path.write_bytes(path.read_bytes()[:1000])
    api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert bits(cut) == bits(whole)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("name", ["run.json", "log.jsonl"])
def test_damaged_settings_and_logs_are_restored_from_the_state(name, damage, whole, cut, scenes):
    path = cut / name
    before = path.read_bytes()
    if damage == "flipped":
        flip(path, 20)  # in the first row: what comes after the state is done again
    elif damage == "cut":
        path.write_bytes(before[:20])
    else:
        path.unlink()
    api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert bits(cut) == bits(whole)
    assert len(read_log(cut)) == 3 and records.read_json(cut / "run.json")["technique"] == "simclr"
    assert (cut / f"{name}.damaged-1").exists() == (damage != "gone")


def test_a_seal_is_broken_by_any_change_of_meaning(tmp_path):
    content = {"lr": 0.3, "names": ["a", "é", "\udc80"], "none": None, "by": {1: 2}}
    records.write_json(tmp_path / "x.json", content)
    assert records.read_json(tmp_path / "x.json")["names"] == content["names"]
    whole = (tmp_path / "x.json").read_bytes()
    for place in range(len(whole)):
        flip(tmp_path / "x.json", place, bit=0)
        try:
            assert records.read_json(tmp_path / "x.json") == json.loads(json.dumps(content))
        except BadData as error:
            assert "x.json" in str(error)
        (tmp_path / "x.json").write_bytes(whole)


def test_a_store_that_lost_a_bit_is_set_aside_and_written_again(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(folder / f"{number}.png")
    first = open_data(folder).pool
    expected = first.digest
    for name in ("images.npy", "manifest.json"):
        place = first.folder
        del first
        flip(place / name)
        first = open_data(folder).pool
        assert first.digest == expected and first.folder == place
        assert "set aside" in capsys.readouterr().err
    assert len(list(files.home().glob("stores/*damaged*"))) == 2


def test_a_damaged_encoder_costs_a_study_that_row_alone(scenes, tmp_path):
    out, _ = api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    expected = results.read(out)
    flip(out / "cells/rotnet-shufflenet_v2-0/encoder_002.safetensors")
    (out / "results.csv").unlink()
    _, failed = api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    assert failed == ["rotnet-shufflenet_v2-0"]
    assert "encoder_002" in (out / "cells/rotnet-shufflenet_v2-0/error.txt").read_text()
    found = results.read(out)
    assert len(found) == len(expected) - len(expected[expected.epoch == 2])
    assert set(found[found.technique == "rotnet"].epoch) == {0, 1, 3}


def test_a_damaged_study_json_is_written_anew_with_the_plans_of_its_cells(scenes, tmp_path):
    settings = {**SMALL, "plan": None, "epochs": 1}
    out, _ = api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **settings)
    plans = records.read_json(out / "study.json")["plans"]
    flip(out / "study.json")
    _, failed = api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **settings)
    assert not failed and records.read_json(out / "study.json")["plans"] == plans
    assert (out / "study.json.damaged-1").exists()


@pytest.mark.heavy
def test_killed_studies_end_with_the_same_bits():
    """The short version of benchmarks/faults.py."""
    words = [sys.executable, "-m", "benchmarks.faults", "--kills", "2", "--techniques", "byol"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 kills" in ended.stdout and " 0 of them with other bits" in ended.stdout


# -- stopping and going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_run_stopped_within_an_epoch_ends_with_the_same_bits(technique, scenes, tmp_path, monkeypatch):
    whole = api.pretrain(technique, "resnet18", scenes, tmp_path / "whole", **TINY)
    for step in (2, 5):  # of nine in three epochs
        with monkeypatch.context() as patch:
            calls = itertools.count(1)
            patch.setattr(signals, "asked", lambda calls=calls, step=step: next(calls) > step)
            with pytest.raises(signals.Stopped, match="goes on from there"):
                api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **TINY)
    cut = api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **TINY)
    found, expected = bits(cut), bits(whole)
    assert all(found[name] == expected[name] for name in expected if name.startswith("encoder"))
    varying = {"seconds", "total_seconds", "images_per_s", "kwh", "grams_co2", "peak_memory_mib"}
    logs = [[{k: v for k, v in row.items() if k not in varying} for row in read_log(f)] for f in (cut, whole)]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_same_seed_gives_the_same_bits(technique, scenes, tmp_path):
    one, two = (api.pretrain(technique, "shufflenet_v2", scenes, tmp_path / str(n), **TINY) for n in (1, 2))
    assert bits(one) == bits(two)


def command(out, *words, epochs=40):
    settings = ["--epochs", str(epochs), "--batch", "16", "--every", "10", "--limit", "64", "--image-size", "32"]
    plan = ["--device", "cpu", "--plan", "precision=fp32", "channels_last=true", "threads=1"]
    return [sys.executable, "-m", "lilliput", *words, *settings, *plan, "--out", str(out)]


def until(condition, process, seconds=120):
    """Wait for it while the process lives."""
    for _ in range(seconds * 50):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it never came")


@contextmanager
def started(words, **named):
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, *heavy(signal.SIGINT, signal.SIGUSR1)])
def test_a_signal_lets_the_step_end_saves_and_says_how_to_go_on(number, tmp_path):
    words = command(tmp_path / "run", "pretrain", "simclr", "shufflenet_v2", epochs=400)
    with started(words) as process:
        until(lambda: len(read_log(tmp_path / "run")) >= 2, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the same command goes on from there" in said and "Traceback" not in said
    assert newest_state(tmp_path / "run").epoch >= 2


def test_a_second_signal_stops_at_once_and_the_run_still_goes_on(tmp_path):
    words = command(tmp_path / "run", "pretrain", "simclr", "shufflenet_v2")
    with started(words) as process:
        until(lambda: len(read_log(tmp_path / "run")) >= 2, process)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert process.returncode < 0
    subprocess.run(words, check=True, capture_output=True)
    assert len(read_log(tmp_path / "run")) == 40


def test_a_study_of_two_workers_stops_when_asked_and_goes_on(tmp_path):
    words = command(
        tmp_path / "s", "study", "--techniques", "rotnet", "simclr", "--backbones", "shufflenet_v2", epochs=60
    )
    words += ["--workers", "2", "--judge", str(little_scenes(tmp_path))]
    logs = [tmp_path / "s/cells" / f"{name}-shufflenet_v2-0" for name in ("rotnet", "simclr")]
    with started(words) as process:
        until(lambda: any(read_log(log) for log in logs), process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "the same command goes on" in said and "Traceback" not in said and "failed" not in said
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert all(len(read_log(log)) == 60 for log in logs)


def little_scenes(folder):
    """A labelled folder of two classes, twenty images each to fit and to test."""
    rng = np.random.default_rng(0)
    for split, kind, number in itertools.product(("train", "test"), ("dark", "light"), range(20)):
        place = folder / "labelled" / split / kind
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (32, 32, 3)) + 127 * (kind == "light")
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder / "labelled"


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    words = command(
        tmp_path / "s", "study", "--techniques", "rotnet", "simclr", "--backbones", "shufflenet_v2", epochs=900
    )
    with started([*words, "--workers", "2", "--judge", str(little_scenes(tmp_path))]) as process:
        until(lambda: list(tmp_path.glob("s/cells/*/log.jsonl")), process)
        (workers,) = Path(f"/proc/{process.pid}/task").glob(f"{process.pid}/children")
        children = workers.read_text().split()
        process.kill()
        process.communicate()
    assert children
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    with locks.alone(next(tmp_path.glob("s/cells/*/log.jsonl")).parent):
        pass


# -- rivals -----------------------------------------------------------------------------------------------------------


def test_a_second_process_on_a_run_is_refused_until_the_first_is_dead(scenes, tmp_path):
    words = command(tmp_path / "run", "pretrain", "simclr", "shufflenet_v2", epochs=400)
    with started(words) as process:
        until(lambda: read_log(tmp_path / "run"), process)
        second = subprocess.run(words, capture_output=True, text=True)
        assert second.returncode == 1 and f"in use by process {process.pid}" in second.stderr
        process.kill()
        process.communicate()
    with locks.alone(tmp_path / "run"):
        pass


@pytest.mark.heavy
def test_two_processes_share_a_study_and_no_cell_is_done_twice(tmp_path):
    words = command(tmp_path / "s", "study", "--techniques", *TECHNIQUES[:3], "--backbones", "shufflenet_v2", epochs=20)
    words += ["--workers", "1", "--judge", str(little_scenes(tmp_path))]
    with started(words) as one, started(words) as two:
        said = [process.communicate(timeout=300)[1] for process in (one, two)]
    assert one.returncode == two.returncode == 0, said
    for technique in TECHNIQUES[:3]:
        assert len(read_log(tmp_path / f"s/cells/{technique}-shufflenet_v2-0")) == 20
    lines = (tmp_path / "s/results.csv").read_text().splitlines()
    rows = results.read(tmp_path / "s")
    assert len(lines) - 1 == len(rows) and not results.damaged_lines(tmp_path / "s/results.csv")


# -- limits -----------------------------------------------------------------------------------------------------------


@contextmanager
def limit(kind, value):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_a_file_limit_is_one_clear_error_and_the_same_call_goes_on_later(whole, scenes, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        real = save_state

        def save(folder, state):
            with limit(resource.RLIMIT_FSIZE, 200_000 if state.epoch == 2 else resource.RLIM_INFINITY):
                real(folder, state)

        patch.setattr(runs, "save_state", save)
        with pytest.raises(LilliputError, match=r"cannot write .*File too large.*goes on"):
            api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **TINY)
    assert not list((tmp_path / "run").glob(".*.tmp"))
    api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **TINY)
    assert bits(tmp_path / "run") == bits(whole)


@contextmanager
def disk(folder, options):
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a disk takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on_later(whole, scenes, tmp_path):
    with disk(tmp_path / "small", "size=3m") as small:
        with pytest.raises(LilliputError, match=r"No space left.*goes on"):
            api.pretrain("simclr", "resnet18", scenes, small / "run", **TINY)
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        api.pretrain("simclr", "resnet18", scenes, small / "run", **TINY)
        assert bits(small / "run") == bits(whole)


def test_a_read_only_disk_is_one_clear_error(scenes, tmp_path):
    with (
        disk(tmp_path / "small", "size=3m,ro") as small,
        pytest.raises(LilliputError, match=r"cannot write in .*Read-only.*--out"),
    ):
        api.pretrain("simclr", "resnet18", scenes, small / "run", **TINY)


@pytest.mark.heavy
def test_out_of_memory_names_a_batch_and_a_size_that_would_fit(tmp_path):
    """With 1 GiB more than what the libraries take, where a batch of 128 at 96 px wants five."""
    words = ["pretrain", "simclr", "mobilenet_v2", "--image-size", "96", "--limit", "128", "--batch", "128"]
    words += ["--epochs", "1", "--device", "cpu", "--plan", "precision=fp32", "channels_last=true", "threads=1"]
    program = f"""
import resource, sys
from lilliput import api, cli
from lilliput.system import machine
from lilliput.training import run
api.open_data("scenes", image_size=96, limit=128)
import torch, timm, codecarbon
size = machine._kib(__import__("pathlib").Path("/proc/self/status"), "VmData") * 1024
resource.setrlimit(resource.RLIMIT_DATA, (size + 2**30, resource.RLIM_INFINITY))
sys.exit(cli.main({[*words, "--out", str(tmp_path / "run")]!r}))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert "out of memory with a batch of 128 at 96 px; --batch " in ended.stderr, ended.stderr
    assert "--image-size" in ended.stderr
    fits = int(ended.stderr.partition("--batch ")[2].split()[0])
    assert 8 <= fits < 64


def test_the_batch_that_fits_grows_with_what_there_is(monkeypatch):
    plan = Plan("cpu", "fp32", True)
    fits = []
    for gib in (0, 1, 2, 4):
        monkeypatch.setattr(memory, "available_bytes", lambda device, gib=gib: gib * 2**30)
        technique = catalog.technique("simclr")(catalog.backbone_builder("mobilenet_v2"))
        fits.append(memory.batch_that_fits(technique, 96, plan))
    assert fits[0] == 0 and 8 <= fits[1] < fits[2] < fits[3] < 200


# -- circumstances ----------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_nothing(whole, scenes, tmp_path, monkeypatch):
    now = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **TINY)
    assert bits(out) == bits(whole)
    assert all(row["seconds"] > 0 for row in read_log(out))


def test_a_moved_run_goes_on_from_another_working_directory(whole, cut, scenes, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    cut.rename(moved)
    monkeypatch.chdir(moved.parent)
    api.pretrain("simclr", "resnet18", scenes, "renamed", **TINY)
    assert bits(moved) == bits(whole)


def test_a_run_of_a_newer_lilliput_is_refused(cut, scenes):
    record = records.read_json(cut / "run.json")
    records.write_json(cut / "run.json", {**record, "format": FORMAT + 1})
    with pytest.raises(BadData, match="install a newer one"):
        api.pretrain("simclr", "resnet18", scenes, cut, **TINY)


def test_a_run_of_the_first_format_goes_on_to_the_same_bits(whole, cut, scenes):
    state = newest_state(cut)
    header = {"format": 1, "epoch": state.epoch, "scaler": state.scaler, "technique": "simclr"}
    save_file(state.tensors, cut / "state.safetensors", {"lilliput": json.dumps(header)})
    record = {**records.read_json(cut / "run.json"), "format": 1}
    (cut / "run.json").write_text(json.dumps(record))
    for path in cut.glob("state_*"):
        path.unlink()
    api.pretrain("simclr", "resnet18", scenes, cut, **TINY)
    assert bits(cut)["encoder_003.safetensors"] == bits(whole)["encoder_003.safetensors"]


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("run.json", {"plan": {"device": "cpu", "precision": "fp32", "channels_last": "no"}}),
        ("run.json", {"plan": None}),
        ("run.json", {"image_size": "32"}),
        ("run.json", {"seed": True}),
        ("run.json", {"parameters": []}),
        ("study.json", {"judge": {}}),
        ("study.json", {"test_images": "40"}),
        ("study.json", {"classes": [["a"]]}),
        ("study.json", {"judge_digests": 3}),
        ("study.json", {"judge_origin": {"digest": "", "left_out": ["x"]}}),
    ],
)
def test_records_of_other_kinds_than_ours_are_refused_by_name(study, scenes, tmp_path, name, odd):
    """Sealed as ours are, which anyone can do."""
    out = shutil.copytree(study, tmp_path / "s")
    path = out / name if name == "study.json" else out / "cells/rotnet-shufflenet_v2-0" / name
    records.write_json(path, {**records.read_json(path), **odd})
    with pytest.raises(BadData, match=f"{next(iter(odd))}|channels_last|left_out"):
        if name == "run.json":
            api.probe(path.parent, scenes, probes=["knn"])
        elif "judge_digests" in odd or "judge_origin" in odd:
            open_sample(out)
        else:
            compare.compare(out, "paper")


def test_a_log_or_a_trace_of_other_kinds_is_refused_by_name(study, scenes, tmp_path):
    out = shutil.copytree(study, tmp_path / "s")
    run = out / "cells/rotnet-shufflenet_v2-0"
    rows = read_log(run)
    for path in states(run):  # which would know better
        path.unlink()
    write_log(run, [{**row, "total_seconds": "long"} for row in rows])
    with pytest.raises(BadData, match="its total_seconds is 'long'"):
        api.probe(run, scenes, probes=["knn"])
    write_log(run, rows)
    for path in (out / "traces").glob("*.json"):
        records.write_json(path, {**records.read_json(path), "judged": {"plan": 3}})
    with pytest.raises(BadData, match=r"traces.*its plan is 3"):
        api.verify(out, scenes, sample=1)


# -- verify -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("verify") / "s"
    api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    return out


def test_a_study_holds_when_its_rows_are_computed_anew(study, scenes, capsys):
    for _ in range(2):  # a module of the function's name would take its place after the first
        assert lilliput.verify(study, scenes, sample=3)
        assert "3 of 3 hold" in capsys.readouterr().out


def test_a_study_whose_log_was_altered_does_not_hold_nor_gives_rows(study, scenes, tmp_path, capsys):
    """Seconds and energy stand in the log alone, under the digest of the state."""
    out = shutil.copytree(study, tmp_path / "s")
    run = out / "cells/rotnet-shufflenet_v2-0"
    write_log(run, [{**row, "total_seconds": 90.0} for row in read_log(run)])
    assert not lilliput.verify(out, scenes, sample=0)
    assert "its rows are not those of the saved state" in capsys.readouterr().err
    with pytest.raises(BadData, match="not those of the saved state"):
        api.probe(run, scenes, probes=["knn"])


def test_an_encoder_that_has_gone_is_named(study, scenes, tmp_path, capsys):
    out = shutil.copytree(study, tmp_path / "s")
    run = out / "cells/rotnet-shufflenet_v2-0"
    (run / "encoder_002.safetensors").unlink()
    assert not lilliput.verify(out, scenes, sample=0)
    assert "encoder_002.safetensors is missing" in capsys.readouterr().err
    settings = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], **SMALL}
    assert api.study(scenes, out, **settings)[1] == []  # its rows are there
    (out / "results.csv").unlink()
    assert api.study(scenes, out, **settings)[1] == ["rotnet-shufflenet_v2-0"]
    assert "encoder_002" in (run / "error.txt").read_text()
    assert set(results.read(out).query("technique == 'rotnet'").epoch) == {0, 1, 3}


def test_a_row_that_was_lost_is_judged_again(study, scenes, tmp_path):
    out = shutil.copytree(study, tmp_path / "s")
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


def test_elsewhere_an_image_may_be_guessed_otherwise(study, scenes, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(study, tmp_path / "s")
    for path in (out / "traces").glob("*.json"):
        content = records.read_json(path)
        content["judged"]["versions"]["torch"] = "2.6.0"
        records.write_json(path, content)
    flips = [1]  # test images

    def other(predicted, exam, held_out=None):
        predicted = predicted.clone()
        few = slice(0, flips[0])
        predicted[few] = (exam.test_labels[few] + (predicted[few] == exam.test_labels[few])) % len(exam.classes)
        yield from score(predicted, exam, held_out)

    monkeypatch.setattr(catalog.module("probes", "linear"), "score", other)
    assert lilliput.verify(out, scenes, sample=20)
    assert "on another machine or by other versions" in capsys.readouterr().out
    flips[0] = 100
    assert not lilliput.verify(out, scenes, sample=20)


def test_a_pipe_among_the_files_keeps_nobody_waiting(study, scenes, tmp_path, capsys):
    out = shutil.copytree(study, tmp_path / "s")
    os.mkfifo(out / "traces" / "x.json")
    os.mkfifo(out / "cells/rotnet-shufflenet_v2-0/encoder_009.safetensors")
    (out / "cells/rotnet-shufflenet_v2-0/encoder_008.safetensors").symlink_to("/dev/zero")
    assert not lilliput.verify(out, scenes, sample=0)
    assert capsys.readouterr().err.count("no regular file") == 3


def test_other_stores_and_looks_may_be_damaged(study, scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(scenes.train.folder.parents[1]))
    out = shutil.copytree(study, tmp_path / "s")
    bad = files.home() / "stores" / "aaa"
    bad.mkdir()
    (bad / "manifest.json").write_bytes(b"\xff\xfe{")
    try:
        sample = open_sample(out)
    finally:
        shutil.rmtree(bad)
    (out / "inspect").mkdir()
    (look,) = looks_of(out, sample, [("rotnet", "shufflenet_v2")])
    (path,) = (out / "inspect").glob("*.npz")
    flip(path)
    (again,) = looks_of(out, sample, [("rotnet", "shufflenet_v2")])
    assert np.array_equal(look.scores, again.scores) and np.array_equal(look.features, again.features)


def test_a_number_that_came_or_went_is_no_agreement():
    assert verification._worst({"a": 0.5, "b": np.nan}, {"a": 0.5, "b": np.nan}) == 0
    assert verification._worst({"a": 0.5, "b": 0.1}, {"a": 0.25, "b": 0.1}) == 0.25
    for new in ({"a": 0.5, "b": 0.2}, {"a": np.nan, "b": np.nan}, {"a": 0.5}, {}):
        assert verification._worst({"a": 0.5, "b": np.nan}, new) == np.inf


def test_every_row_leads_to_all_that_it_came_from(study):
    for name in set(results.read(study).trace):
        trace = records.read_json(study / "traces" / f"{name}.json")
        assert trace["judged"]["versions"]["torch"] == torch.__version__ and trace["judged"]["machine"]["processor"]
        assert len(trace["judged"]["judge_digests"]) == 2 and trace["run"]["data_digest"]


@pytest.mark.parametrize("harm", ["value", "encoder", "other images"])
def test_what_is_not_so_does_not_hold(harm, study, scenes, tmp_path, capsys):
    out = tmp_path / "s"
    shutil.copytree(study, out)
    if harm == "value":
        rows = results.read(out)
        one = rows[(rows.technique == "rotnet") & (rows.metric == "accuracy")]
        results.append(out, [{**row, "value": row["value"] + 0.01} for row in one.to_dict("records")])
        assert not api.verify(out, scenes, sample=9)
        assert "different by up to 0.01" in capsys.readouterr().out
    elif harm == "encoder":
        flip(out / "cells/rotnet-shufflenet_v2-0/encoder_002.safetensors")
        assert not api.verify(out, scenes, sample=99)
        said = capsys.readouterr()
        assert "encoder_002" in said.err and said.out.count("could not be computed anew") == 2  # linear and kNN
        assert (out / "cells/rotnet-shufflenet_v2-0/encoder_002.safetensors").exists()
    else:
        other = scenes._replace(test=scenes.test.take(range(50)))
        with pytest.raises(BadData, match="not the images that judged"):
            api.verify(out, other, sample=1)


def test_leaks_are_told_and_left_out_and_the_study_still_holds(tmp_path, capsys):
    """Ten test images also in a pool of fifty, one also among the forty to fit on."""
    labelled, pool = little_scenes(tmp_path), tmp_path / "pool"
    pool.mkdir()
    rng = np.random.default_rng(1)
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(pool / f"own-{number}.png")
    for number in range(10):
        shutil.copy(labelled / f"test/dark/{number}.png", pool / f"leak-{number}.png")
    shutil.copy(labelled / "test/light/3.png", labelled / "train/light/leak.png")
    settings = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], **SMALL, "epochs": 1}
    out, _ = api.study(labelled, tmp_path / "s", pool=pool, leave_out="exact", **settings)
    said = capsys.readouterr().err
    assert "left out: 10 images of the pool, 1 of the training images" in said
    record = records.read_json(out / "study.json")
    assert (record["pool_images"], record["train_images"], record["test_images"]) == (40, 40, 40)
    assert api.verify(out, sample=2)  # by the stores that lie here, without what was left out
    with pytest.raises(BadSetting, match="data_digest is"):
        api.study(labelled, out, pool=pool, **settings)
    with pytest.raises(BadSetting, match="neither exact nor near"):
        api.study(labelled, tmp_path / "x", pool=pool, leave_out="all", **settings)


# -- guards -----------------------------------------------------------------------------------------------------------


class WithoutPredictor(byol.BYOL):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.predictor = torch.nn.Identity()


class WithoutStopGradient(byol.BYOL):
    """SimSiam's two branches, the target learning too."""

    def forward(self, one, two):
        one, two = (self.projector(self.encoder(view)) for view in (one, two))
        self.measures["spread"] = byol.spread(one)
        return byol.regression(self.predictor(one), two) + byol.regression(self.predictor(two), one)

    def after_step(self, progress):
        pass


class OnReLU(moco_v2.MoCoV2):
    """MoCo v2 on what SqueezeNet's own classifier puts out: a convolution, a ReLU, the average over the places."""

    def __init__(self, make_backbone, **named):
        super().__init__(make_backbone, output=1000, **named)
        self.head = torch.nn.Sequential(torch.nn.Conv2d(self.encoder.dim, 1000, 1), torch.nn.ReLU())
        torch.nn.init.normal_(self.head[0].weight, 0, 0.01)  # as torchvision has it
        torch.nn.init.zeros_(self.head[0].bias)
        self.key = moco_v2.frozen_copy(torch.nn.Sequential(self.encoder, self.head))

    def forward(self, one, two, order):
        queries = self.head(self.encoder.maps(one)).mean((2, 3))
        with torch.no_grad():
            keys = self.key[1](self.key[0].maps(two[order])).mean((2, 3))[order.argsort()]
            self.keys = torch.nn.functional.normalize(keys.float(), dim=1)
        logits = moco_v2.moco_logits(queries, self.keys, self.queue, temperature=self.temperature)
        return torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def flags_of(technique, scenes, out, monkeypatch=None, kind=None, **settings):
    real = catalog.technique
    with pytest.MonkeyPatch.context() as patch:
        if kind:
            patch.setattr(catalog, "technique", lambda name: kind if name == technique else real(name))
        run = api.pretrain(technique, settings.pop("backbone", "shufflenet_v2"), scenes, out, **settings)
    return [row.get("flags", []) for row in read_log(run)]


GUARDED = {"epochs": 10, "batch": 32, "device": "cpu", "plan": PLAN, "width": 0.5}


@pytest.fixture(scope="module")
def more_scenes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield open_data("scenes", image_size=32, limit=448)


@pytest.mark.heavy
def test_byol_without_its_predictor_is_flagged(more_scenes, tmp_path, capsys):
    assert (
        "projections_gather" in flags_of("byol", more_scenes, tmp_path, kind=WithoutPredictor, **GUARDED, tau=0.0)[-1]
    )
    assert "try a predictor" in capsys.readouterr().err


def test_a_target_that_learns_too_is_flagged(more_scenes, tmp_path):
    assert "projections_gather" in flags_of("byol", more_scenes, tmp_path, kind=WithoutStopGradient, **GUARDED)[-1]


@pytest.mark.heavy
def test_moco_on_the_relu_of_squeezenet_is_flagged(more_scenes, tmp_path):
    settings = {**GUARDED, "recipe": "paper", "backbone": "squeezenet", "lr": 0.24, "queue": 4096}
    del settings["width"]
    found = flags_of("moco_v2", more_scenes, tmp_path, kind=OnReLU, **settings)
    assert any("features_lost_rank" in flags or "gradient_vanished" in flags for flags in found), found


@pytest.mark.parametrize("technique", ["rotnet", *heavy("moco_v2", "split_brain", "simclr", "byol")])
def test_a_rate_a_hundred_times_too_high_is_flagged_or_ends_the_run(technique, more_scenes, tmp_path):
    rate = 100 * catalog.technique(technique).small.lr
    try:
        assert any(flags_of(technique, more_scenes, tmp_path, **{**GUARDED, "epochs": 6}, lr=rate))
    except LilliputError as error:
        assert "no numbers" in str(error) or "loss is" in str(error)
        assert "--lr" in str(error)


@pytest.mark.parametrize("technique", ["split_brain", *heavy("rotnet", "moco_v2", "simclr", "byol")])
def test_healthy_runs_are_quiet(technique, more_scenes, tmp_path):
    assert not any(flags_of(technique, more_scenes, tmp_path, **GUARDED))


def test_flags_reach_rows_table_and_page(scenes, tmp_path, monkeypatch):
    pytest.importorskip("captum", reason="the report's extra is not installed")
    always = guards.Guard("always_up", lambda first, row: True, "", "nothing")
    monkeypatch.setattr(guards, "GUARDS", (always,))
    monkeypatch.setattr(guards, "SETTLED", 0)
    out, _ = api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    rows = results.read(out)
    assert set(rows.flagged[(rows.technique == "rotnet") & (rows.epoch > 0)]) == {"always_up"}
    told = "rotnet on shufflenet_v2, seed 0, epoch 1, 2, 3: always up; try nothing"
    assert told in (out / "table.md").read_text()
    assert f"Flagged: {told}" in page.write_page(out, (scenes.train, scenes.test)).read_text()


def test_a_probe_that_does_not_converge_is_flagged(scenes, tmp_path):
    run = api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path, **{**SMALL, "epochs": 1})
    assert set(api.probe(run, scenes, probes=["linear"]).flagged) == {""}
    (run / "results.csv").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "probe", lambda name: partial(linear, steps=1))
        assert set(api.probe(run, scenes, probes=["linear"]).flagged) == {"probe_not_converged"}


def test_a_loss_that_is_no_number_ends_the_run_with_a_remedy_and_loses_nothing(more_scenes, tmp_path):
    class Broken(byol.BYOL):
        def forward(self, *views):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(*views) * (torch.nan if self.calls > 20 else 1)

    with pytest.raises(LilliputError, match=r"the loss is nan in epoch 2; try .*--lr"):
        flags_of("byol", more_scenes, tmp_path, kind=Broken, **GUARDED)
    assert newest_state(tmp_path).epoch == 1


def test_a_batch_of_one_is_refused(scenes, tmp_path):
    with pytest.raises(BadSetting, match="batch 1"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path, **{**SMALL, "batch": 1})
