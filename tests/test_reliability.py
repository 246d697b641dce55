"""Nothing lost, whatever comes from outside: signals, rivals, full disks, limits, clocks."""

import itertools
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from lilliput import api
from lilliput.errors import LilliputError
from lilliput.studies import results
from lilliput.system import locks
from lilliput.training import run as training_run
from lilliput.training.record import read_log
from lilliput.training.state import newest_state, save_state
from tests.commands import Command, lilliput
from tests.conftest import NARROW, TECHNIQUES, heavy, labelled_folder, saved_bits

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def images_drawn_once(own_home, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path_factory.getbasetemp() / "drawn"))


@pytest.mark.heavy
def test_killed_studies_end_with_the_same_bits():
    """The short version of benchmarks/faults.py."""
    words = [sys.executable, "-m", "benchmarks.faults", "--kills", "2", "--techniques", "byol"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 kills" in ended.stdout and " 0 of them with other bits" in ended.stdout


def command(out, *words, epochs=40):
    settings = ["--epochs", str(epochs), "--batch", "16", "--every", "10", "--limit", "64", "--image-size", "32"]
    plan = ["--width", "0.25", "--device", "cpu", "--plan", "precision=fp32", "channels_last=true", "threads=1"]
    return [*words, *settings, *plan, "--out", str(out)]


def until(condition, process, seconds=120):
    """Wait for it while the process lives."""
    for _ in range(seconds * 50):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it never came")


@contextmanager
def started(words):
    """By an interpreter of its own, as a shell starts it."""
    words = [sys.executable, "-m", "lilliput", *words]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
    words = command(tmp_path / "run", "pretrain", "simclr", "shufflenet_v2", epochs=20)
    with Command(*words) as process:
        until(lambda: len(read_log(tmp_path / "run")) >= 2, process)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert process.returncode < 0
    assert lilliput(*words).returncode == 0
    assert len(read_log(tmp_path / "run")) == 20


def test_a_study_of_two_workers_stops_when_asked_and_goes_on(tmp_path):
    words = command(
        tmp_path / "s", "study", "--techniques", "rotnet", "simclr", "--backbones", "shufflenet_v2", epochs=20
    )
    words += ["--workers", "2", "--baselines", "pixels", "--probes", "linear"]
    words += ["--judge", str(labelled_folder(tmp_path))]
    logs = [tmp_path / "s/cells" / f"{name}-shufflenet_v2-0" for name in ("rotnet", "simclr")]
    with Command(*words) as process:
        until(lambda: any(read_log(log) for log in logs), process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "the same command goes on" in said and "Traceback" not in said and "failed" not in said
    ended = lilliput(*words)
    assert ended.returncode == 0, ended.stderr
    assert all(len(read_log(log)) == 20 for log in logs)


def descendants(pid):
    own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + [further for child in own for further in descendants(child)]


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    words = command(
        tmp_path / "s", "study", "--techniques", "rotnet", "simclr", "--backbones", "shufflenet_v2", epochs=900
    )
    with started([*words, "--workers", "2", "--judge", str(labelled_folder(tmp_path))]) as process:
        until(lambda: list(tmp_path.glob("s/cells/*/log.jsonl")), process)
        children = descendants(process.pid)
        process.kill()
        process.communicate()
    assert children
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    with locks.alone(next(tmp_path.glob("s/cells/*/log.jsonl")).parent):
        pass


def test_a_second_process_on_a_run_is_refused_until_the_first_is_dead(scenes, tmp_path):
    words = command(tmp_path / "run", "pretrain", "simclr", "shufflenet_v2", epochs=400)
    with Command(*words) as process:
        until(lambda: read_log(tmp_path / "run"), process)
        second = lilliput(*words)
        assert second.returncode == 1 and f"in use by process {process.pid}" in second.stderr
        process.kill()
        process.communicate()
    with locks.alone(tmp_path / "run"):
        pass


@pytest.mark.heavy
def test_two_processes_share_a_study_and_no_cell_is_done_twice(tmp_path):
    words = command(tmp_path / "s", "study", "--techniques", *TECHNIQUES[:3], "--backbones", "shufflenet_v2", epochs=20)
    words += ["--workers", "1", "--judge", str(labelled_folder(tmp_path))]
    with started(words) as one, started(words) as two:
        said = [process.communicate(timeout=300)[1] for process in (one, two)]
    assert one.returncode == two.returncode == 0, said
    for technique in TECHNIQUES[:3]:
        assert len(read_log(tmp_path / f"s/cells/{technique}-shufflenet_v2-0")) == 20
    lines = (tmp_path / "s/results.csv").read_text().splitlines()
    rows = results.read(tmp_path / "s")
    assert len(lines) - 1 == len(rows) and not results.damaged_lines(tmp_path / "s/results.csv")


@contextmanager
def limit(kind, value):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_a_file_limit_is_one_clear_error_and_the_same_call_goes_on_later(finished_run, scenes, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        real = save_state

        def save(folder, state):
            with limit(resource.RLIMIT_FSIZE, 200_000 if state.epoch == 2 else resource.RLIM_INFINITY):
                real(folder, state)

        patch.setattr(training_run, "save_state", save)
        with pytest.raises(LilliputError, match=r"cannot write .*File too large.*goes on"):
            api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    assert not list((tmp_path / "run").glob(".*.tmp"))
    api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    assert saved_bits(tmp_path / "run") == saved_bits(finished_run)


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


def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on_later(finished_run, scenes, tmp_path):
    with disk(tmp_path / "small", "size=3m") as small:
        with pytest.raises(LilliputError, match=r"No space left.*goes on"):
            api.pretrain("simclr", "resnet18", scenes, small / "run", **NARROW)
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        api.pretrain("simclr", "resnet18", scenes, small / "run", **NARROW)
        assert saved_bits(small / "run") == saved_bits(finished_run)


def test_a_read_only_disk_is_one_clear_error(scenes, tmp_path):
    with (
        disk(tmp_path / "small", "size=3m,ro") as small,
        pytest.raises(LilliputError, match=r"cannot write in .*Read-only.*--out"),
    ):
        api.pretrain("simclr", "resnet18", scenes, small / "run", **NARROW)


@pytest.mark.heavy
def test_out_of_memory_names_a_batch_and_a_size_that_would_fit(tmp_path):
    """With 1 GiB more than what the libraries take, where a batch of 128 at 96 px wants five."""
    words = ["pretrain", "simclr", "mobilenet_v2", "--image-size", "96", "--limit", "128", "--batch", "128"]
    words += [
        "--accumulate",
        "1",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--plan",
        "precision=fp32",
        "channels_last=true",
        "threads=1",
    ]
    program = f"""
import resource, sys
from lilliput import cli
from lilliput.datasets import open_data
from lilliput.system import machine
from lilliput.system.cost import EnergyMeter
from lilliput.training import run
open_data("scenes", image_size=96, limit=128)
import torch, timm, pandas
EnergyMeter().stop()  # codecarbon imports most of what it takes when it is used
size = machine._kib(__import__("pathlib").Path("/proc/self/status"), "VmData") * 1024
resource.setrlimit(resource.RLIMIT_DATA, (size + 2**30, resource.RLIM_INFINITY))
sys.exit(cli.main({[*words, "--out", str(tmp_path / "run")]!r}))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert "out of memory with a batch of 128 at 96 px; --accumulate " in ended.stderr, ended.stderr
    assert "--image-size" in ended.stderr
    fits = int(ended.stderr.partition("--batch ")[2].split()[0])
    assert 8 <= fits < 64


def test_a_clock_that_goes_back_changes_nothing(finished_run, scenes, tmp_path, monkeypatch):
    now = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    assert saved_bits(out) == saved_bits(finished_run)
    assert all(row["seconds"] > 0 for row in read_log(out))


def test_a_moved_run_goes_on_from_another_working_directory(finished_run, killed_run, scenes, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    killed_run.rename(moved)
    monkeypatch.chdir(moved.parent)
    api.pretrain("simclr", "resnet18", scenes, "renamed", **NARROW)
    assert saved_bits(moved) == saved_bits(finished_run)
