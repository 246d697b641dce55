"""The one training loop: a generator of epochs. Saving, judging and logging are its caller's lines."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from lilliput.data.store import Images
from lilliput.errors import BadSetting, LilliputError
from lilliput.optim.build import set_rate
from lilliput.optim.recipe import Recipe
from lilliput.system.plan import Plan
from lilliput.system.progress import task
from lilliput.system.seeds import epoch_seed
from lilliput.techniques import Technique


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

    def __init__(self, step: int, tensors: dict[str, torch.Tensor]):
        super().__init__()
        self.step, self.tensors = step, tensors


def train(
    technique: Technique,
    images: Images,
    recipe: Recipe,
    optimiser: Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    plan: Plan,
    seed: int,
    start: int = 0,
    midway: Pause | None = None,
    stop: Callable[[], object] = lambda: False,
    label: str = "",
) -> Iterator[Epoch]:
    """Train on and yield an Epoch after each, from epoch `start` + 1 to the recipe's last.

    An epoch's randomness comes from (seed, epoch) alone, so a run that goes on repeats an uninterrupted one. Where
    `stop` says so between two steps, raises a Pause; given as `midway`, the first epoch goes on from there.
    """
    steps = len(images) // recipe.batch
    if steps == 0:
        raise BadSetting(
            f"a batch of {recipe.batch} is larger than the {len(images)} images; use --batch {len(images)} or less"
        )
    for number in range(start + 1, recipe.epochs + 1):
        rng = plan.generator(epoch_seed(seed, number))
        order = torch.randperm(len(images), generator=rng, device=plan.device).cpu().numpy()
        totals, first, before = _Totals(), 0, 0.0
        technique.train()
        began = time.perf_counter()
        if midway:
            first, before = midway.step, totals.go_on(midway.tensors, plan.device)
            rng.set_state(midway.tensors["rng"])
            midway = None
        with task(f"{label} epoch {number}/{recipe.epochs}".strip(), steps) as advance:
            advance(first)
            for step in range(first, steps):
                if stop():
                    seconds = before + time.perf_counter() - began
                    raise Pause(step, {"rng": rng.get_state(), **totals.tensors(seconds)})
                progress = ((number - 1) * steps + step) / (recipe.epochs * steps)
                # towards a whole step: the first step of a warm-up from zero would otherwise be lost
                rate = recipe.rate(progress + 0.5 / (recipe.epochs * steps))
                set_rate(optimiser, rate)
                batch = images.load(order[step * recipe.batch : (step + 1) * recipe.batch], plan.device)
                loss, norm = _step(technique, batch, optimiser, scaler, plan, rng)
                technique.after_step(progress)
                totals.add({"loss": loss, "gradient_norm": norm, **technique.measures})
                advance(1)
        means = totals.means()
        if not math.isfinite(means["loss"]):
            raise LilliputError(
                f"the loss is {means['loss']} in epoch {number}; try a learning rate below --lr {recipe.lr}"
            )
        yield Epoch(
            number,
            loss=means.pop("loss"),
            learning_rate=rate,
            gradient_norm=means.pop("gradient_norm"),
            seconds=before + time.perf_counter() - began,
            images=steps * recipe.batch,
            measures=means,
        )


def _step(technique, batch, optimiser, scaler, plan, rng):
    views = technique.views(batch, rng)
    with plan.autocast():
        loss = technique(*views)
    optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    gradients = [p.grad for p in technique.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients).nan_to_num(posinf=0.0)  # fp16 overflows at first: those steps are skipped
    scaler.step(optimiser)
    scaler.update()
    return loss.detach(), norm


class _Totals:
    """Sums that stay on the device until the epoch ends."""

    def __init__(self):
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, values):
        self.count += 1
        for name, value in values.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def tensors(self, seconds: float) -> dict[str, torch.Tensor]:
        spent = torch.tensor([self.count, seconds], dtype=torch.float64)
        return {"spent": spent, **{f"sum/{name}": total.cpu() for name, total in self.sums.items()}}

    def go_on(self, tensors: dict[str, torch.Tensor], device: str) -> float:
        """From where `tensors` were taken; the seconds until then."""
        sums = {key.removeprefix("sum/"): value for key, value in tensors.items() if key.startswith("sum/")}
        self.sums = {name: value.to(device) for name, value in sums.items()}
        count, seconds = tensors["spent"].tolist()
        self.count = int(count)
        return seconds

    def means(self) -> dict[str, float]:
        return {name: (total / self.count).item() for name, total in self.sums.items()}
