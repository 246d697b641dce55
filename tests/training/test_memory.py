"""After memory ran out: a batch that would fit, and nothing kept alive."""

import re
import weakref
from dataclasses import replace

import pytest

from lilliput import api, catalog
from lilliput.errors import LilliputError
from lilliput.system.plan import Plan
from lilliput.techniques.rotnet import RotNet
from lilliput.training import memory
from lilliput.training import run as training_run
from lilliput.training.cell import make_cell
from lilliput.training.record import read_run
from tests.conftest import NARROW, interrupt_at, saved_bits


def test_the_batch_that_fits_grows_with_what_there_is(monkeypatch):
    plan = Plan("cpu", "fp32", channels_last=True)
    fits = []
    for gib in (0, 1, 2, 4):
        monkeypatch.setattr(memory, "available_bytes", lambda device, gib=gib: gib * 2**30)
        technique = catalog.technique("simclr")(catalog.backbone_builder("mobilenet_v2"))
        fits.append(memory.batch_that_fits(technique, 96, plan))
    assert fits[0] == 0 and 8 <= fits[1] < fits[2] < fits[3] < 200


@pytest.mark.parametrize("call", [2, 6])  # in the first epoch, and in the second; its views are tried before them
def test_nothing_keeps_a_technique_alive_after_memory_ran_out(call, scenes, tmp_path, monkeypatch):
    """What would fit is tried in the memory that the run has given back."""
    calls, usual = [], RotNet.forward

    def forward(self, images):
        calls.append(weakref.ref(self))
        if len(calls) == call:
            raise MemoryError
        return usual(self, images)

    def what_fits(*_):
        return "alive" if any(reference() is not None for reference in calls) else "given back"

    monkeypatch.setattr(RotNet, "forward", forward)
    monkeypatch.setattr(training_run, "what_fits", what_fits)
    with pytest.raises(LilliputError, match="rotnet-shufflenet_v2-0: given back"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path / "run", **NARROW)
    assert len(calls) == call


def test_a_batch_that_does_not_fit_is_taken_in_parts_and_a_run_keeps_its_number_of_them(
    scenes, tmp_path, monkeypatch, capsys
):
    """The first time only 8 of 16 images fit; when the run goes on, memory is plenty."""
    monkeypatch.setattr(memory, "SURE_PIXELS", 0)
    monkeypatch.setattr(memory, "batch_that_fits", lambda *_, **__: 8)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, training_run, "save_state", 3)
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    said = capsys.readouterr().err
    assert "a batch of 16 goes through the backbone in 2 parts" in said and "batch norm sees 8 images at a time" in said
    monkeypatch.setattr(memory, "batch_that_fits", lambda *_, **__: 1000)
    run = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    assert read_run(run)["plan"]["accumulate"] == 2
    asked = {**NARROW, "plan": {**NARROW["plan"], "accumulate": 2}}
    assert saved_bits(run) == saved_bits(api.pretrain("simclr", "resnet18", scenes, tmp_path / "asked", **asked))


def test_the_parts_are_as_few_as_fit_beside_the_views_of_the_whole_batch(monkeypatch):
    plan, cell = Plan("cpu", "fp32", channels_last=True), make_cell("simclr", "mobilenet_v2", batch=4096)
    views = 2 * 4096 * 3 * 96 * 96 * 4
    monkeypatch.setattr(memory, "available_bytes", lambda device: 8 * 2**30)
    parts = memory.in_parts(plan, cell, 96).accumulate
    each = memory.batch_that_fits(cell.build(), 96, plan, of=4096)
    assert parts == -(-4096 // each) > 8
    monkeypatch.setattr(memory, "available_bytes", lambda device: 8 * 2**30 - views / memory.SPARE)
    assert (
        memory.batch_that_fits(cell.build(), 96, plan, of=4096)
        < each
        == pytest.approx(memory.batch_that_fits(cell.build(), 96, plan), abs=8)
    )
    small = make_cell("simclr", "mobilenet_v2", batch=32)
    assert memory.in_parts(plan, small, 32).accumulate == 1


def test_memory_that_ran_out_names_the_parts_that_would_fit(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**30)
    cell, plan = make_cell("simclr", "mobilenet_v2", batch=512), Plan("cpu", "fp32", channels_last=True)
    assert re.search(r"--accumulate \d+ or --batch \d+ or --image-size \d+ would fit", memory.what_fits(cell, 96, plan))
    of_three = re.search(r"px; --batch (\d+) or", memory.what_fits(cell, 96, replace(plan, processes=3)))
    assert of_three and int(of_three[1]) % 3 == 0
