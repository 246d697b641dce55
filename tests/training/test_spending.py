"""What a run spends is counted over all its interruptions."""

import itertools
import signal
import time
from types import SimpleNamespace

import pytest

from lilliput import api
from lilliput.studies.judge import costs
from lilliput.system import signals
from lilliput.system.cost import ml_impact_grams
from lilliput.training import spending
from lilliput.training.record import read_log
from lilliput.training.spending import Spending
from lilliput.training.state import newest_state
from tests.conftest import NARROW


def test_what_an_epoch_cost_before_it_was_broken_off_is_counted(scenes, tmp_path, monkeypatch):
    out, steps = tmp_path / "run", itertools.count(1)

    def asked():
        time.sleep(0.3)
        return signal.SIGTERM if next(steps) == 2 else None

    monkeypatch.setattr(signals, "asked", asked)
    options = {**NARROW, "epochs": 1}
    with pytest.raises(signals.Stopped, match="and 1 steps"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, out, **options)
    api.pretrain("rotnet", "shufflenet_v2", scenes, out, **options)
    (row,) = read_log(out)
    assert row["total_seconds"] >= row["seconds"] > 0.6


class CountingMeter:
    """One kWh and ten grams more at every reading."""

    def __init__(self, country, share):
        self.readings = 0

    def read(self):
        self.readings += 1
        return float(self.readings), 10.0 * self.readings

    def stop(self):
        pass


def test_what_was_spent_before_is_added_to_all_quantities(monkeypatch):
    seconds = iter([1000.0, 1007.0, 1009.0, 2000.0, 2001.0])
    monkeypatch.setattr(spending, "EnergyMeter", CountingMeter)
    monkeypatch.setattr(spending, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    spent = Spending("USA", 1.0, before={"total_seconds": 100.0, "kwh": 0.5, "grams_co2": 3.0})
    assert spent.so_far() == {"total_seconds": 107.0, "machine_seconds": 7.0, "kwh": 1.5, "grams_co2": 13.0}
    assert spent.so_far() == {"total_seconds": 109.0, "machine_seconds": 9.0, "kwh": 2.5, "grams_co2": 23.0}
    assert Spending("USA", 1.0, before={}).so_far() == {
        "total_seconds": 1.0,
        "machine_seconds": 1.0,
        "kwh": 1.0,
        "grams_co2": 10.0,
    }


def test_a_pause_in_the_second_epoch_keeps_the_sums_of_rows_and_what_was_spent_since(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "EnergyMeter", CountingMeter)
    out, steps = tmp_path / "run", itertools.count(1)
    with monkeypatch.context() as patch, pytest.raises(signals.Stopped, match="after epoch 1 and 1 steps"):
        patch.setattr(signals, "asked", lambda: next(steps) == 5)  # three steps an epoch
        api.pretrain("rotnet", "shufflenet_v2", scenes, out, **NARROW)
    (first,) = read_log(out)
    tensors = newest_state(out).tensors
    assert (first["kwh"], first["grams_co2"]) == (1.0, 10.0)
    assert (tensors["spent/kwh"].item(), tensors["spent/grams_co2"].item()) == (2.0, 20.0)
    assert tensors["spent/total_seconds"].item() > first["total_seconds"]
    api.pretrain("rotnet", "shufflenet_v2", scenes, out, **NARROW)
    rows = read_log(out)
    assert rows[0] == first
    assert [row["kwh"] for row in rows] == [1.0, 3.0, 4.0] and [row["grams_co2"] for row in rows] == [10.0, 30.0, 40.0]
    assert tensors["spent/total_seconds"].item() < rows[1]["total_seconds"] < rows[2]["total_seconds"]


def test_a_run_that_goes_on_after_an_epoch_adds_to_the_sums_of_its_last_row(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "EnergyMeter", CountingMeter)
    out, steps = tmp_path / "run", itertools.count(1)
    with monkeypatch.context() as patch, pytest.raises(signals.Stopped, match="after epoch 1 and 0 steps"):
        patch.setattr(signals, "asked", lambda: next(steps) == 4)  # three steps an epoch
        api.pretrain("rotnet", "shufflenet_v2", scenes, out, **NARROW)
    api.pretrain("rotnet", "shufflenet_v2", scenes, out, **NARROW)
    rows = read_log(out)
    assert [row["kwh"] for row in rows] == [1.0, 2.0, 3.0] and [row["grams_co2"] for row in rows] == [10.0, 20.0, 30.0]
    assert rows[0]["total_seconds"] < rows[1]["total_seconds"] < rows[2]["total_seconds"]


def test_a_worker_has_its_share_of_the_machine_in_every_estimate(monkeypatch):
    """ML Impact's is by seconds: of four workers side by side each had the whole machine's."""
    clock = iter((0.0, 100.0))
    monkeypatch.setattr(spending, "EnergyMeter", CountingMeter)
    monkeypatch.setattr(spending, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    spent = Spending("USA", 0.25, before={"total_seconds": 40.0, "machine_seconds": 10.0})
    found = spent.so_far()
    spent.stop()
    assert (found["total_seconds"], found["machine_seconds"]) == (140.0, 35.0)
    old, new = ({**found, "images_per_s": 1.0, "peak_memory_mib": 1.0} for _ in range(2))
    del old["machine_seconds"]  # a log of before
    sizes = dict.fromkeys(("parameters", "multiply_adds", "multiply_adds_224"), 1)
    assert costs(sizes, new)["grams_co2_ml_impact"] == pytest.approx(ml_impact_grams(35.0))
    assert costs(sizes, old)["grams_co2_ml_impact"] == pytest.approx(ml_impact_grams(140.0))
