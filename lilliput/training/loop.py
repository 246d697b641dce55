"""The one training loop: a generator of epochs. Saving, judging and logging are its caller's lines."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from lilliput.backbones import Backbone, join_batch_norm
from lilliput.errors import BadData, LilliputError
from lilliput.optim.build import make_optimiser, set_rate
from lilliput.optim.recipe import Recipe
from lilliput.system import distributed
from lilliput.system.plan import Plan
from lilliput.system.progress import task
from lilliput.system.seeds import epoch_seed
from lilliput.techniques import Technique

Batches = Callable[[int, Generator, int], Iterator[Tensor]]
"""(epoch, rng, start) -> the epoch's batches of images, float [B, 3, H, W] in 0..1 where the technique is, from number
`start` on; of several processes, this one's part of each. What their order needs is drawn from `rng` before it returns:
the rest of `rng` is the views'."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the images gave; means over its steps."""

    number: int  # 1, 2, ...
    loss: float
    learning_rate: float  # at the last step
    gradient_norm: float
    seconds: float
    images: int
    measures: dict[str, float]

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds


class Pause(Exception):
    """Asked for within an epoch: so many of its steps are done, and `tensors` say how the next would have begun."""

    def __init__(self, step: int, tensors: dict[str, Tensor]):
        super().__init__()
        self.step, self.tensors = step, tensors


class Learner:
    """A technique, where and how it is trained, and the optimiser that moves it."""

    def __init__(self, technique: Technique, recipe: Recipe, plan: Plan):
        join_batch_norm(technique, recipe.batch)
        self.technique = plan.hasten(plan.place(technique))
        distributed.send_weights(self.technique)
        for network in self.technique.modules():
            if isinstance(network, Backbone):
                network.parts = plan.accumulate or 1
        self.recipe, self.plan = recipe, plan
        self.optimiser = make_optimiser(recipe, self.technique)
        self.scaler = torch.amp.GradScaler(torch.device(plan.device).type, enabled=plan.precision == "fp16")

    def step(self, images: Tensor, rng: Generator) -> dict[str, Tensor]:
        """One step on a batch; the loss, the gradient's norm and what the technique measured, each a scalar."""
        views = self.technique.views(images, rng)
        with self.plan.autocast():
            loss = self.technique(*views)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        gradients = [p.grad for p in self.technique.parameters() if p.grad is not None]
        distributed.average_(gradients)
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.get_total_norm(gradients)
        measures = dict(self.technique.measures)
        if self.scaler.is_enabled():  # fp16 overflows at first: those steps are skipped, and have no norm
            measures["skipped"] = (~norm.isfinite()).float()
            norm = norm.nan_to_num(nan=0.0, posinf=0.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {"loss": loss.detach(), "gradient_norm": norm, **measures}


def train(
    learner: Learner,
    batches: Batches,
    steps: int,
    *,
    seed: int,
    start: int = 0,
    midway: Pause | None = None,
    stop: Callable[[], object] = lambda: False,
    label: str = "",
) -> Iterator[Epoch]:
    """Train on and yield an Epoch after each, from epoch `start` + 1 to the recipe's last; `steps` batches in each.

    An epoch's randomness comes from (seed, epoch) alone, so a run that goes on repeats an uninterrupted one. Where
    `stop` says so between two steps, raises a Pause; given as `midway`, the first epoch goes on from there. BadData
    where an epoch has another number of batches, LilliputError where the loss or the gradient is not finite.
    """
    technique, recipe, plan = learner.technique, learner.recipe, learner.plan
    whole, muon = recipe.epochs * steps, recipe.muon_share(recipe.epochs * steps)
    for number in range(start + 1, recipe.epochs + 1):
        rng, tally, first = plan.generator(epoch_seed(seed, number)), _Tally(), midway.step if midway else 0
        images = batches(number, rng, first)
        if midway:
            rng.set_state(midway.tensors["rng"])
            tally.go_on(midway.tensors, plan.device)
            midway = None
        technique.train()
        with task(f"{label} epoch {number}/{recipe.epochs}".strip(), steps) as advance:
            advance(first)
            for step, batch in enumerate(images, first):
                if stop():
                    raise Pause(step, {"rng": rng.get_state(), **tally.tensors()})
                progress = ((number - 1) * steps + step) / whole
                # towards a whole step: the first step of a warm-up from zero would otherwise be lost
                rate = recipe.rate(progress + 0.5 / whole)
                set_rate(learner.optimiser, rate, muon=muon)
                tally.add(learner.step(batch, rng))
                technique.after_step(progress)
                advance(1)
        if tally.count != steps:
            raise BadData(f"{tally.count} of {steps} batches came in epoch {number}")
        means = tally.means()
        means["gradient_norm"] /= max(1 - means.get("skipped", 0.0), 1 / steps)  # of the steps that were taken
        for what, value in (("loss", means["loss"]), ("gradient's norm", means["gradient_norm"])):
            if not math.isfinite(value):
                raise LilliputError(
                    f"the {what} is {value} in epoch {number}; try a learning rate below --lr {recipe.lr}"
                )
        yield Epoch(
            number,
            loss=means.pop("loss"),
            learning_rate=rate,
            gradient_norm=means.pop("gradient_norm"),
            seconds=tally.seconds(),
            images=steps * recipe.batch,
            measures=means,
        )


class _Tally:
    """Sums over an epoch's steps, which stay on the device and in the process until it ends; and its seconds."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count, self.before, self.began = 0, 0.0, time.perf_counter()

    def add(self, values: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in values.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def means(self) -> dict[str, float]:
        self._share()
        return {name: (total / self.count).item() for name, total in self.sums.items()}

    def tensors(self) -> dict[str, Tensor]:
        self._share()
        spent = torch.tensor([self.count, self.seconds()], dtype=torch.float64)
        return {"spent": spent, **{f"sum/{name}": total.cpu() for name, total in self.sums.items()}}

    def _share(self) -> None:
        """Sums become those of all processes: each has measured on its own images."""
        distributed.average_(list(self.sums.values()))

    def go_on(self, tensors: dict[str, Tensor], device: str) -> None:
        """From where `tensors` were taken."""
        sums = {key.removeprefix("sum/"): value for key, value in tensors.items() if key.startswith("sum/")}
        self.sums = {name: value.to(device) for name, value in sums.items()}
        count, self.before = tensors["spent"].tolist()
        self.count = int(count)
