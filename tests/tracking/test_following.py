"""What any tracker can rely on, and what none can do to a run, by one that only remembers."""

import sys
from types import ModuleType

import pytest

from lilliput import api, tracking
from lilliput.errors import BadSetting
from lilliput.studies.verification import damaged_files
from lilliput.training.record import read_log
from tests.conftest import NARROW, measured_log, saved_bits


class Remembering:
    """What its runs heard, by run."""

    def __init__(self):
        self.heard, self.opened, self.closed = {}, [], 0

    def open_run(self, about, run):
        tracker = ModuleType("tracker")
        tracker.run = run or f"run {len(self.heard)}"
        self.opened.append((about.name, tracker.run))
        heard = self.heard.setdefault(tracker.run, [])
        tracker.log = lambda epoch, figures: heard.append((epoch, figures))
        tracker.close = lambda: setattr(self, "closed", self.closed + 1)
        return tracker


@pytest.fixture
def tracker(monkeypatch):
    memory = Remembering()
    module = ModuleType("lilliput.tracking.wandb")
    module.open_run = memory.open_run
    monkeypatch.setitem(sys.modules, "lilliput.tracking.wandb", module)
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    return memory


def test_a_run_that_goes_on_tells_each_row_once_and_to_the_same_run(tracker, scenes, killed_run):
    """The killed run had no tracker: what its log holds is told when it goes on with one."""
    api.pretrain("simclr", "resnet18", scenes, killed_run, track="wandb", **NARROW)
    api.pretrain("simclr", "resnet18", scenes, killed_run, track="wandb", **NARROW)  # nothing is left to do
    (heard,) = tracker.heard.values()
    log = read_log(killed_run)
    assert [epoch for epoch, _ in heard] == [1, 2, 3]
    assert [figures["loss"] for _, figures in heard] == [row["loss"] for row in log]
    assert tracker.opened == [("simclr-resnet18-0", "run 0")] and tracker.closed == 1


def test_a_tracker_opened_again_goes_on_where_it_stopped(tracker, tmp_path):
    rows = [{"epoch": epoch, "loss": 1 / epoch, "flags": ["collapse"], "kwh": float("nan")} for epoch in (1, 2, 3)]
    for known in (rows[:2], rows):
        with tracking.followed(["wandb"], tmp_path, "cell", {}) as follower:
            follower.read(known)
    assert tracker.heard == {"run 0": [(epoch, {"loss": 1 / epoch}) for epoch in (1, 2, 3)]}
    tracking.forget(tmp_path)
    with tracking.followed(["wandb"], tmp_path, "cell", {}) as follower:
        follower.read(rows[:1])
    assert tracker.heard["run 1"] == [(1, {"loss": 1.0})]


def test_a_mark_that_is_damaged_begins_another_run(tracker, tmp_path):
    (tmp_path / tracking.FOLDER).mkdir()
    (tmp_path / tracking.FOLDER / "wandb.json").write_text("{", encoding="utf-8")
    with tracking.followed(["wandb"], tmp_path, "cell", {}) as follower:
        follower.read([{"epoch": 1, "loss": 1.0}])
    assert tracker.heard == {"run 0": [(1, {"loss": 1.0})]}


@pytest.fixture
def failing(tracker, monkeypatch):
    """Lets one of a tracker's parts fail."""

    def refuse(*_):
        raise ConnectionError("no route\nto host")

    def fail(part):
        usual = tracker.open_run

        def opened(about, run):
            made = usual(about, run)
            setattr(made, part, refuse)
            return made

        module = sys.modules["lilliput.tracking.wandb"]
        monkeypatch.setattr(module, "open_run", refuse if part == "open_run" else opened)

    return fail


@pytest.mark.parametrize("part", ["open_run", "log", "close"])
def test_whatever_of_a_tracker_fails_is_said_once(failing, tmp_path, capsys, part):
    failing(part)
    with tracking.followed(["wandb"], tmp_path, "cell", {}) as follower:
        follower.read([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 1.0}])
    assert " ".join(capsys.readouterr().err.split()).count("wandb hears no more of it (ConnectionError: no route") == 1


def test_a_tracker_that_fails_costs_the_run_nothing(failing, finished_run, scenes, tmp_path):
    failing("log")
    run = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", track=["wandb"], **NARROW)
    assert measured_log(run) == measured_log(finished_run)
    encoders = {name: bits for name, bits in saved_bits(finished_run).items() if name.startswith("encoder")}
    assert {name: saved_bits(run)[name] for name in encoders} == encoders


def test_a_studys_judged_figures_come_too_each_once(tracker, scenes, tmp_path):
    settings = {**NARROW, "epochs": 1, "baselines": [], "probes": ["linear"], "track": "wandb"}
    for _ in range(2):
        api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **settings)
    (heard,) = tracker.heard.values()
    judged = [(epoch, figures) for epoch, figures in heard if any(name.startswith("linear/") for name in figures)]
    assert [epoch for epoch, _ in judged] == [0, 1] and all(0 <= f["linear/accuracy"] <= 1 for _, f in judged)
    (tmp_path / "s" / "cells" / "rotnet-shufflenet_v2-0" / tracking.FOLDER / "theirs.json").write_text("{}", "utf-8")
    assert damaged_files(tmp_path / "s")[1] == []  # what trackers write there is not ours to judge


def test_a_library_that_is_missing_is_named_with_its_extra_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(BadSetting, match=r'pip install "lilliput\[trackio\]"'):
        api.pretrain("simclr", "resnet18", tmp_path / "nowhere", tmp_path / "run", track="trackio")
    with pytest.raises(BadSetting, match="tracker 'neptune' is none of tensorboard, wandb"):
        api.study(tmp_path / "nowhere", tmp_path / "s", track=["neptune"])
    assert list(tmp_path.iterdir()) == []
