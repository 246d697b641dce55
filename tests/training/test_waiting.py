"""Within a step a program tells an accelerator what to do, and waits for nothing that it works out."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lilliput import catalog
from lilliput.images import augment
from lilliput.system.plan import Plan
from lilliput.training.loop import Learner, _Tally
from tests.conftest import CPU, rng
from tests.training.together import Case, build

WAITING = {  # what brings a number of the device to the program; CUDA's bincount and unique do so within
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::nonzero",
    "aten::masked_select",
    "aten::bincount",
    "aten::_unique2",
    "aten::equal",
}
CASES = [
    *map(Case, catalog.names("techniques")),
    Case("swav", {"queue": 8, "from_share": 0.0}),
    Case("inpainting", {"adversarial": 0.5}),
    Case("distil", {"by": "relations"}),
]


def steps(case, plan=CPU):
    """Whenever it is called the next step of a technique, with all that belongs to it."""
    learner = Learner(build(case), catalog.technique(case.technique).small, plan)
    learner.technique.train()
    images, numbers, tally = torch.rand(8, 3, 32, 32).to(plan.device), plan.generator(0), _Tally()

    def step():
        tally.add(learner.step(images, numbers))
        learner.technique.after_step(0.5)

    return step


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_step_waits_for_a_number(case, monkeypatch):
    """By torch's profiler, of the way that images take on an accelerator: on a CPU they are picked, which needs none
    of its time."""
    monkeypatch.setattr(augment, "takes_apart", lambda images: False)
    step = steps(case)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    names = {event.key for event in seen.key_averages()}
    assert "aten::convolution" in names and not names & WAITING


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_step_waits_for_cuda(case):
    """By what torch itself takes for waiting; copies from memory that is not pinned are told there too."""
    step = steps(case, Plan("cuda", "bf16", channels_last=True))
    step()
    try:
        torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_profiler_sees_what_waits():
    values = torch.rand(8, generator=rng())
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        values[values > 0.5].sum().item()
        bool(values[0] > 0.5)
        torch.bincount((values * 4).long())
    assert {event.key for event in seen.key_averages()} >= {"aten::item", "aten::nonzero", "aten::bincount"}
