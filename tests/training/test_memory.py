"""After memory ran out: a batch that would fit, and nothing kept alive."""

from lilliput import catalog
from lilliput.system.plan import Plan
from lilliput.training import memory


def test_the_batch_that_fits_grows_with_what_there_is(monkeypatch):
    plan = Plan("cpu", "fp32", channels_last=True)
    fits = []
    for gib in (0, 1, 2, 4):
        monkeypatch.setattr(memory, "available_bytes", lambda device, gib=gib: gib * 2**30)
        technique = catalog.technique("simclr")(catalog.backbone_builder("mobilenet_v2"))
        fits.append(memory.batch_that_fits(technique, 96, plan))
    assert fits[0] == 0 and 8 <= fits[1] < fits[2] < fits[3] < 200
