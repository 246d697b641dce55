"""Words of time, and the longest search that fits them."""

from types import SimpleNamespace

import pytest

from lilliput.advice import learned
from lilliput.advice.budget import Pace, _seconds_of_search, fitting, seconds_of
from lilliput.advice.candidates import Limits, Size, amount, size_of, within
from lilliput.advice.halving import Rung, rungs_of
from lilliput.api import advising
from lilliput.errors import BadSetting
from lilliput.training.cell import make_cell


@pytest.mark.parametrize(("words", "seconds"), [("90s", 90), ("1h30m", 5400), ("0.5h", 1800), ("1d", 86400), (7, 7)])
def test_budgets_are_read_as_they_are_written(words, seconds):
    assert seconds_of(words) == seconds


@pytest.mark.parametrize("words", ["2 hours", "", "h", "0s", -1, float("nan")])
def test_what_is_no_time_is_refused_with_the_way_to_write_it(words):
    with pytest.raises(BadSetting, match=r"budget .*"):
        seconds_of(words)


def test_the_ladder_is_as_long_as_the_budget_takes():
    """Three candidates of 10 s an epoch, all to epoch k and one to 3k: 50 k seconds; and 4 k + 2 k of judging and 3."""
    paces = dict.fromkeys("abc", Pace(10.0, 1.0, 0.0))
    for every in (1, 7):
        seconds = 50 * every + 3 + 3 + 2  # judged: untrained ones, the first rung, two more checkpoints
        assert fitting(paces, seconds, workers=1, afterwards=0).every == every
        assert fitting(paces, seconds - 0.1, workers=1, afterwards=0).every == every - 1 if every > 1 else True
    assert fitting(paces, 360, workers=1, afterwards=0).rungs == [Rung(7, 3), Rung(21, 1)]


def test_the_slowest_are_taken_for_those_that_go_on():
    slow = {"a": Pace(1.0, 0.0, 0.0), "b": Pace(1.0, 0.0, 0.0), "c": Pace(10.0, 0.0, 0.0)}
    assert fitting(slow, 32, workers=1, afterwards=0).every == 1  # 12 to epoch 1, and c on to epoch 3 for 20


def test_a_budget_that_is_too_short_tells_what_would_do():
    with pytest.raises(BadSetting, match=r"3 candidates need 55 s .* 10 s of the budget .* --limit"):
        fitting(dict.fromkeys("abc", Pace(10.0, 0.5, 0.0)), 10, workers=1, afterwards=0.3)


@pytest.mark.parametrize(("words", "number"), [("100M", 1e8), ("1.5g", 1.5e9), ("300k", 3e5), ("42", 42)])
def test_amounts_are_read_as_they_are_written(words, number):
    assert amount(words) == number


def test_an_amount_of_nothing_is_refused():
    with pytest.raises(BadSetting, match="100M"):
        amount("many")


def test_a_size_is_that_of_the_network():
    cell = make_cell("rotnet", "shufflenet_v2", options={"width": 0.5})
    encoder = cell.build_encoder()
    size = size_of(encoder, 32, "cpu")
    numbers = sum(value.numel() for value in encoder.state_dict().values())
    assert 4 * numbers / 2**20 <= size.mib < 4.1 * numbers / 2**20 and size.latency_ms > 0 and size.macs > 1e5


def test_backbones_beyond_the_limits_are_left_out_aloud(capsys):
    cells = [make_cell("rotnet", name, options={"width": 0.25}) for name in ("resnet18", "shufflenet_v2")]
    large, small = (size_of(cell.build_encoder(), 32, "cpu") for cell in cells)
    kept, sizes = within(cells, Limits(mib=(large.mib + small.mib) / 2), 32, "cpu")
    assert [cell.backbone for cell in kept] == ["shufflenet_v2"] and set(sizes) == {"resnet18", "shufflenet_v2"}
    assert "resnet18 is left out" in capsys.readouterr().err
    with pytest.raises(BadSetting, match=r"no backbone keeps the limits; the smallest, .* multiply-adds"):
        within(cells, Limits(macs=1), 32, "cpu")


def test_what_is_beyond_a_limit_is_told_with_both_numbers():
    size = Size(2_000_000, 3.0, 1.0)
    assert size.beyond(Limits(1e6, 5.0, None)) == ["2,000,000 multiply-adds, where 1,000,000 multiply-adds may be"]
    assert size.beyond(Limits()) == []


def test_where_there_is_no_time_for_all_those_that_did_better_elsewhere_are_tried(capsys, monkeypatch):
    monkeypatch.setattr(
        learned,
        "learned",
        lambda: {"effects": {"technique": {"simclr": 1.0, "byol": 0.5, "rotnet": -1.0}, "backbone": {}}},
    )
    cells = [make_cell(name, "squeezenet") for name in ("rotnet", "simclr", "byol")]
    asked = SimpleNamespace(is_labelled=True)
    paces = {cell.name: Pace(10.0, 1.0, 0.0) for cell in cells}
    everyone = advising._fitting(asked, cells, paces, 1000.0, 1)
    assert set(everyone[1]) == set(paces) and "left out" not in capsys.readouterr().err
    least = _seconds_of_search(list(paces.values()), rungs_of(3, 1), 1, 1, 10.0) + 4  # what all need at the least
    schedule, kept, _ = advising._fitting(asked, cells, paces, least - 1, 1)
    assert list(kept) == ["simclr-squeezenet-0", "byol-squeezenet-0"] and schedule.epochs >= 1
    assert "left out: rotnet-squeezenet-0" in capsys.readouterr().err
    with pytest.raises(BadSetting, match="3 candidates need"):
        advising._fitting(asked, cells, paces, 10.0, 1)
