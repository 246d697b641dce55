"""After memory ran out: a batch that would fit, and nothing kept alive."""

import weakref

import pytest

from lilliput import api, catalog
from lilliput.errors import LilliputError
from lilliput.system.plan import Plan
from lilliput.techniques.rotnet import RotNet
from lilliput.training import memory
from lilliput.training import run as training_run
from tests.conftest import NARROW


def test_the_batch_that_fits_grows_with_what_there_is(monkeypatch):
    plan = Plan("cpu", "fp32", channels_last=True)
    fits = []
    for gib in (0, 1, 2, 4):
        monkeypatch.setattr(memory, "available_bytes", lambda device, gib=gib: gib * 2**30)
        technique = catalog.technique("simclr")(catalog.backbone_builder("mobilenet_v2"))
        fits.append(memory.batch_that_fits(technique, 96, plan))
    assert fits[0] == 0 and 8 <= fits[1] < fits[2] < fits[3] < 200


@pytest.mark.parametrize("call", [1, 5])  # in the first epoch, and in the second
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
