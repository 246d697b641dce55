"""The plan: what measures faster is taken, what is fixed is kept, what was measured is remembered."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.errors import BadSetting
from lilliput.system import plan
from lilliput.system.plan import KINDS, Plan, choose, like
from lilliput.system.resources import Resources
from lilliput.training.cell import make_cell, plan_for
from lilliput.training.encoders import save_encoder
from tests.conftest import rng


@pytest.fixture
def clock(monkeypatch):
    """Steps that take what the test says: {(field, value): factor}; and the plans that were tried."""
    factors, tried = {}, []

    def seconds(model, images, one):
        tried.append(one)
        taken = 1.0
        for (field, value), factor in factors.items():
            taken *= factor if getattr(one, field) == value else 1.0
        return taken

    monkeypatch.setattr(plan, "_seconds", seconds)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    return factors, tried


def chosen(fixed=None, **named):
    return choose("cpu", fixed, **{"network": lambda: nn.Conv2d(3, 4, 3), "name": "net", "size": 8, **named})


USUAL = Plan("cpu", "fp32", channels_last=True, threads=4)


def test_what_wins_by_its_margin_is_taken(clock):
    factors, _ = clock
    factors.update({("precision", "bf16"): 0.7, ("channels_last", False): 0.95, ("threads", 2): 0.8})
    assert chosen() == Plan("cpu", "bf16", channels_last=True, threads=2)
    factors[("channels_last", False)] = 0.5
    factors[("precision", "bf16")] = 0.9  # half the bits for a tenth of the time is no bargain
    assert chosen(name="other") == Plan("cpu", "fp32", channels_last=False, threads=2)


def test_what_is_many_times_slower_is_tried_twice(clock):
    """bf16 on a processor without it: thirteen times as slow."""
    factors, tried = clock
    factors[("precision", "bf16")] = 13
    assert chosen() == USUAL and [one.precision for one in tried].count("bf16") == 2


def test_one_slow_first_step_rejects_nothing(clock, monkeypatch):
    """The first of a precision or a layout prepares what the later ones find there."""
    factors, tried = clock
    factors[("precision", "bf16")] = 0.5
    warm = plan._seconds

    def seconds(model, images, one):
        cold = one not in tried
        return warm(model, images, one) * (30 if cold else 1)

    monkeypatch.setattr(plan, "_seconds", seconds)
    assert chosen().precision == "bf16"


def test_a_processor_of_the_same_name_without_wide_instructions_is_another(clock, monkeypatch):
    factors, _ = clock
    monkeypatch.setattr(plan, "_instructions", lambda: ["AVX512", True, True])
    factors[("precision", "bf16")] = 0.5
    assert chosen().precision == "bf16"
    monkeypatch.setattr(plan, "_instructions", lambda: ["AVX512", False, False])
    factors[("precision", "bf16")] = 13
    assert chosen() == USUAL


def test_what_is_fixed_is_neither_tried_nor_changed(clock):
    factors, tried = clock
    factors[("precision", "bf16")] = 0.1
    assert chosen({"precision": "fp32", "threads": 3, "compile": True}) == Plan("cpu", "fp32", True, 3, True)
    assert {one.precision for one in tried} == {"fp32"} and {one.threads for one in tried} == {3}
    tried.clear()
    assert chosen({"precision": "bf16", "channels_last": False, "threads": 1}) == Plan("cpu", "bf16", False, 1)
    assert choose("cpu", {"precision": None}) == USUAL  # no network to try
    assert not tried


def test_what_was_measured_is_remembered_for_the_same_network_size_and_batch(clock):
    factors, tried = clock
    first = chosen()
    count = len(tried)
    factors[("precision", "bf16")] = 0.1  # were it measured again, it would differ
    assert chosen() == first == USUAL and len(tried) == count
    for other in ({"size": 16}, {"batch": 8}, {"name": "wider"}):
        assert chosen(**other).precision == "bf16"
    (kept, *_) = sorted((Path(plan.os.environ["LILLIPUT_HOME"]) / "plans").iterdir())
    for damage in ("", "{}", json.dumps({"plan": {"colour": "red"}})):
        for file in kept.parent.iterdir():
            file.write_text(damage)
        assert chosen().precision == "bf16"


def test_a_home_that_cannot_be_written_costs_only_the_memory(clock, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "file"))
    assert chosen() == chosen() == USUAL


@pytest.mark.parametrize(
    ("fixed", "said"),
    [
        ({"colour": "red"}, "no 'colour'"),
        ({"precision": "fp8"}, "'fp8' is none of fp32, bf16, fp16"),
        ({"precision": "fp16"}, "take fp32 or bf16"),
        ({"threads": 0}, "at least 1"),
        ({"threads": "two"}, "'two' is no int"),
        ({"channels_last": 1}, "1 is no bool"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(fixed, said):
    with pytest.raises(BadSetting, match=said):
        choose("cpu", fixed)


def test_a_plan_is_had_again_as_its_record_says():
    """It was the nearest of its kind since plans tell their processes: with this machine's threads, so other bits."""
    begun = Plan("cpu", "bf16", False, threads=torch.get_num_threads() + 2, accumulate=2)
    assert like(begun.as_dict(), names=KINDS) == begun
    assert like({**begun.as_dict(), "device": "cuda:9"}, names=KINDS).precision == "bf16"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_plan_of_a_record_from_a_gpu_can_be_had_without_one(precision):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    begun = {"device": "cuda", "precision": precision, "channels_last": True}
    half = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp32"}
    assert (plan := like(begun)).device == "cpu" and plan.precision == half[precision]
    assert like(begun, "cpu", {"threads": 1}).threads == 1
    with pytest.raises(BadSetting, match="device 'cuda' cannot be used here"):
        like(begun, "cuda", None)


def test_the_trial_runs_every_network_and_leaves_threads_and_random_numbers_alone():
    for backbone in catalog.BACKBONES:
        state, threads = torch.get_rng_state(), torch.get_num_threads()
        found = plan_for(make_cell("simclr", backbone, options={"width": 0.25}), 32, Resources("cpu"))
        assert found.precision in ("fp32", "bf16") and not found.compile
        assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_technique_has_the_loss_gradients_and_names_of_an_eager_one(tmp_path):
    cell = make_cell("simclr", "squeezenet", options={"width": 0.25})
    # in doubles, so that what is left of rounding is nothing beside a wrong sum
    eager, compiled = (Plan("cpu", "fp32", True, compile=c).hasten(cell.build().double()) for c in (False, True))
    views = torch.rand(2, 4, 3, 32, 32, generator=rng(0)).double()
    losses = [technique(*views) for technique in (eager, compiled)]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    named = dict(eager.named_parameters())
    assert set(eager.state_dict()) == set(compiled.state_dict())
    for name, parameter in compiled.named_parameters():
        torch.testing.assert_close(parameter.grad, named[name].grad, rtol=1e-5, atol=1e-5)
    save_encoder(tmp_path / "e.safetensors", compiled.encoder, {"technique": "simclr", "backbone": "squeezenet"})


def test_every_network_that_learns_is_compiled_whatever_of_it_is_called(monkeypatch):
    """Split-Brain calls its halves' `maps`, which torch's own `Module.compile` leaves as they are."""
    ran = []

    def compiled(function, *_arguments, **_named):
        return lambda *inputs, **named: (ran.append(function), function(*inputs, **named))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    technique = make_cell("split_brain", "squeezenet", options={"width": 0.25}).build()
    for painter in (technique.paint_colour, technique.paint_lightness):
        monkeypatch.setattr(painter, "compile", lambda: None)  # torch's own, which this test has no part in
    Plan("cpu", "fp32", True, compile=True).hasten(technique)
    technique(torch.rand(2, 3, 32, 32, generator=rng(0)))
    assert len(ran) == 2
    copy.deepcopy(technique.encoder)(torch.rand(1, 3, 32, 32, generator=rng(0)))
    assert len(ran) == 2  # a copy is plain torch, to be saved and sent
