"""Three steps of a technique, by one process or by several that have its batch together."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import spawn

from lilliput import catalog
from lilliput.backbones import Backbone
from lilliput.system import distributed
from lilliput.training.loop import Learner
from tests.conftest import CPU, rng

BATCH, STEPS = 8, 3


class Case(NamedTuple):
    """A technique with options, and what is changed in the code before its steps."""

    technique: str
    options: dict
    bug: str = ""
    backbone: str = "tiny"


class Outcome(NamedTuple):
    """Of every step the loss and what was measured, of the first the gradients; and the state after the last."""

    measured: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    state: dict[str, torch.Tensor]


def tiny(*, channels=3, width=1.0):
    """Four stages of a convolution and batch norm."""
    dims = (3, 8, 12, 16, 24)
    stages = [
        nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
        for before, after in pairwise(dims)
    ]
    return Backbone(nn.Sequential(*stages), one_by_one, channels=channels, width=width, name="tiny")


def one_by_one(net):
    return [[stage] for stage in net]


def build(case):
    kind = catalog.technique(case.technique)
    make = tiny if case.backbone == "tiny" else catalog.backbone_builder(case.backbone, width=0.25)
    torch.manual_seed(0)
    options = {**kind.small.options, **({"hidden": 32} if "hidden" in kind.small.options else {}), **case.options}
    return kind(make, **({"teacher": tiny()} if kind.taught else {}), **options)


def three_steps(case):
    kind = catalog.technique(case.technique)
    recipe = kind.small.replace(optimiser="sgd", lr=0.02, batch=BATCH, warmup=0, bare={}, rates={})
    learner = Learner(build(case), recipe, CPU)
    technique = learner.technique
    images = torch.rand(STEPS, BATCH, 3, 32, 32, generator=rng(7))
    measured, gradients = {}, {}
    for step, batch in enumerate(images):
        technique.train()
        found = learner.step(distributed.own(batch), rng(step))
        technique.after_step(step / STEPS)
        distributed.average_(list(found.values()))
        measured |= {f"{name} {step}": value for name, value in found.items()}
        if not step:
            gradients = {k: p.grad.clone() for k, p in technique.named_parameters() if p.grad is not None}
    return Outcome(measured, gradients, {k: v.clone() for k, v in technique.state_dict().items()})


def _work(rank, size, cases, folder, bugs):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    found = {}
    with distributed.among(rank, size):
        for number, case in enumerate(cases):
            with bugs(case.bug):
                found[number] = tuple(three_steps(case))
    torch.save(found, f"{folder}/found-{rank}.pt")
    distributed.highest(0)
    dist.destroy_process_group()


def together(size, cases, folder, bugs):
    """Of each process the outcome of each case."""
    spawn(_work, (size, cases, str(folder), bugs), nprocs=size)
    return [{n: Outcome(*o) for n, o in torch.load(f"{folder}/found-{r}.pt").items()} for r in range(size)]
