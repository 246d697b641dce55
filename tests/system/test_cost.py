"""What a run costs, against sums by hand."""

import math
import time

import pytest
import torch
from torch import nn

from lilliput.errors import BadSetting
from lilliput.system.cost import (
    EnergyMeter,
    check_country,
    ml_impact_grams,
    multiply_adds,
    multiply_adds_or_none,
    parameters,
)


def test_parameters_and_multiply_adds_are_those_of_the_formula():
    network = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert parameters(network) == 8 * 3 * 3 * 3
    assert multiply_adds(network, 16) == 16 * 16 * 8 * 3 * 3 * 3


def test_counting_leaves_the_mode_of_the_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    multiply_adds(network, 8)
    assert network.training and torch.equal(network[1].running_mean, torch.zeros(4))


def test_a_count_that_fails_leaves_the_mode_of_every_part():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 9))
    network[0].eval()
    assert multiply_adds_or_none(network, 4) is None
    assert [part.training for part in network.modules()] == [True, False, True]


def test_a_size_that_a_network_does_not_take_has_no_count():
    assert multiply_adds_or_none(nn.Conv2d(3, 4, 9), 4) is None


def test_an_hour_at_250_watts_on_the_assumed_grid_is_105_grams():
    assert ml_impact_grams(3600) == pytest.approx(105)


def test_a_country_without_figures_is_refused():
    check_country("DEU")
    with pytest.raises(BadSetting, match="'XYZ'"):
        check_country("XYZ")


def test_energy_grows_and_a_share_is_a_part_of_it():
    meters = [EnergyMeter("FRA", share=share) for share in (1.0, 0.25)]
    try:
        time.sleep(0.3)
        first, quarter = (meter.read() for meter in meters)
        whole, part = ((meter.total.kwh, meter.total.grams) for meter in meters)  # what was measured at that reading
        time.sleep(0.3)
        later = meters[0].read()
    finally:
        for meter in meters:
            meter.stop()
    assert 0 < first[0] < later[0] and 0 < first[1] < later[1]
    assert first == whole and quarter == (part[0] / 4, part[1] / 4)


@pytest.mark.parametrize(
    "configured", ["[codecarbon", "[codecarbon]\nmeasure_power_secs = often\ntracking_mode = pid\n"]
)
def test_what_a_user_has_configured_for_codecarbon_does_not_reach_us(tmp_path, monkeypatch, capsys, configured):
    """A configuration that cannot be read ended the training after its first epoch."""
    (tmp_path / ".codecarbon.config").write_text(configured, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODECARBON_CPU_POWER", "a lot")
    meter = EnergyMeter("FRA")
    time.sleep(0.1)
    kwh, grams = meter.read()
    meter.stop()
    assert kwh > 0 and grams > 0 and "unknown" not in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["__init__", "start", "flush", "stop"])
def test_a_meter_that_fails_costs_nothing_but_its_figures_and_says_so_once(monkeypatch, capsys, broken):
    def fail(*_, **__):
        raise AttributeError("no counters here")

    monkeypatch.setattr(f"codecarbon.OfflineEmissionsTracker.{broken}", fail)
    meter = EnergyMeter("FRA")
    figures = meter.read(), meter.read()
    meter.stop()
    assert all(math.isnan(figure) for pair in figures for figure in pair) or broken == "stop"
    assert capsys.readouterr().err.count("energy and CO2 are unknown") == 1
