"""Some steps of a technique, by one process or by several that have its batch together."""

import importlib
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import spawn

from lilliput import catalog
from lilliput.backbones import Backbone
from lilliput.system import distributed
from lilliput.techniques import simclr
from lilliput.training import loop
from lilliput.training.loop import Learner
from tests.conftest import CPU, rng

BATCH = 8


class Case(NamedTuple):
    """A technique with options, and what is changed in the code before its steps."""

    technique: str
    options: dict | tuple = ()
    bug: str = ""  # one of `bugs`
    backbone: str = "tiny"
    steps: int = 3

    @property
    def name(self):
        return " ".join(
            [*(str(word) for word in self if isinstance(word, str) and word), *map(str, dict(self.options).items())]
        )


class Outcome(NamedTuple):
    """Of every step the loss and what was measured, of the first the gradients; and the state after the last."""

    measured: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    state: dict[str, torch.Tensor]


def tiny(*, channels=3, width=1.0):
    """Four stages of a convolution, two of them with batch norm."""
    norms = (nn.Identity(), nn.BatchNorm2d(12), nn.Identity(), nn.BatchNorm2d(24))
    stages = [
        nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), norm, nn.ReLU(inplace=True))
        for (before, after), norm in zip(pairwise((3, 8, 12, 16, 24)), norms, strict=True)
    ]
    return Backbone(nn.Sequential(*stages), one_by_one, channels=channels, width=width, name="tiny")


def one_by_one(net):
    return [[stage] for stage in net]


def build(case):
    kind = catalog.technique(case.technique)
    make = tiny if case.backbone == "tiny" else catalog.backbone_builder(case.backbone, width=0.25)
    torch.manual_seed(0)
    options = {**kind.small.options, **({"hidden": 32} if "hidden" in kind.small.options else {}), **dict(case.options)}
    return kind(make, **({"teacher": tiny()} if kind.taught else {}), **options)


def steps_of(case):
    kind = catalog.technique(case.technique)
    recipe = kind.small.replace(optimiser="sgd", lr=0.02, batch=BATCH, warmup=0, bare={}, rates={})
    learner = Learner(build(case), recipe, CPU)
    technique = learner.technique
    images = torch.rand(case.steps, BATCH, 3, 32, 32, generator=rng(7))
    measured, gradients = {}, {}
    for step, batch in enumerate(images):
        technique.train()
        found = learner.step(distributed.own(batch), rng(step))
        technique.after_step(step / case.steps)
        distributed.average_(list(found.values()))
        measured |= {f"{name} {step}": value for name, value in found.items()}
        if not step:
            gradients = {k: p.grad.clone() for k, p in technique.named_parameters() if p.grad is not None}
    return Outcome(measured, gradients, {k: v.clone() for k, v in technique.state_dict().items()})


@contextmanager
def bug(name):
    """What others have shipped, or what forgetting one exchange would be, within the block."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "gradients that are not summed over the processes":
            patch.setattr(distributed._Gathered, "backward", lambda ctx, gradient: distributed.own(gradient))
        elif name == "an average taken twice":
            usual = distributed.average_
            patch.setattr(distributed, "average_", lambda tensors: (usual(tensors), [t.div_(2) for t in tensors]))
        elif name == "gradients that are not averaged":
            patch.setattr(distributed, "average_", lambda tensors: None)
        elif name == "batch norm of each process":
            patch.setattr(loop, "join_batch_norm", lambda module, batch: None)
        elif name == "views gathered as one":
            patch.setattr(simclr.SimCLR, "forward", _gathered_as_one)
        elif name == "gathered in another order":
            patch.setattr(distributed, "torch", _Backwards(torch))
        elif name.startswith("each by itself"):
            module = importlib.import_module(f"lilliput.techniques.{name.split()[-1]}")
            alone = {"gather": _as_it_is, "total": _as_it_is, "own": _as_it_is, "size": lambda: 1}
            for exchange in set(alone) & set(vars(module)):
                patch.setattr(module, exchange, alone[exchange])
            if "distributed" in vars(module):
                patch.setattr(module, "distributed", SimpleNamespace(**alone))
        yield


def _as_it_is(rows):
    return rows


class _Backwards:
    """torch, but that what was gathered is put together from the last process to the first."""

    def __init__(self, whole):
        self.whole = whole

    def __getattr__(self, name):
        return (lambda pieces: torch.cat(pieces[::-1])) if name == "cat" else getattr(self.whole, name)


def _gathered_as_one(self, one, two):
    one, two = distributed.gather(self.projector(self.encoder(torch.cat([one, two])))).chunk(2)
    self.measures["partners_found"] = simclr.partners_found(one, two)
    return simclr.nt_xent(one, two, temperature=self.temperature, decoupled=self.decoupled)


def _work(rank, size, cases, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    found = {}
    with distributed.among(rank, size):
        for case in cases:
            with bug(case.bug):
                found[case.name] = tuple(steps_of(case))
    torch.save(found, f"{folder}/found-{rank}.pt")
    distributed.highest(0)
    dist.destroy_process_group()


def together(size, cases, folder):
    """Of each process the outcome of each case, by its name."""
    spawn(_work, (size, cases, str(folder)), nprocs=size)
    found = [torch.load(f"{folder}/found-{rank}.pt") for rank in range(size)]
    return [{name: Outcome(*outcome) for name, outcome in of_one.items()} for of_one in found]
