"""What a run costs, against sums by hand."""

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
        time.sleep(0.3)
        later = meters[0].read()
    finally:
        for meter in meters:
            meter.stop()
    assert 0 < first[0] < later[0] and 0 < first[1] < later[1]
    assert quarter[0] == pytest.approx(first[0] / 4, rel=0.8)
