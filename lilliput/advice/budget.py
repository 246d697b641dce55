"""How long a search may train: what an epoch and a judgement of each candidate take here, and the ladder that fits."""

import re
import time
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import NamedTuple

from lilliput.advice.halving import CHECKPOINTS, Rung, rungs_of
from lilliput.data.store import Data
from lilliput.errors import BadSetting
from lilliput.probes import extract
from lilliput.studies.judge import Judge
from lilliput.system import cost
from lilliput.system.plan import Plan, own_threads
from lilliput.system.progress import duration, say
from lilliput.techniques import Technique
from lilliput.training.cell import Cell
from lilliput.training.loop import Learner
from lilliput.training.run import RANKED

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PLANNED = 0.9  # of the budget: the rest is for what turns out slower than measured
OVER = 1.1  # of the budget, after which all is paused
DRAINED, TIMED_SECONDS, LEAST_TIMED = 2, 2.0, 3  # steps, before those that are timed; seconds or steps of these


class Pace(NamedTuple):
    """Seconds of a candidate, alone on its share of the machine."""

    epoch: float
    judging: float  # of a checkpoint
    start: float  # of a training, or of going on with one


def seconds_of(budget: str | float) -> float:
    """Of words like 90s, 45m, 2h, 1h30m, or a number of seconds; BadSetting where it is none."""
    if isinstance(budget, int | float):
        seconds = float(budget)
    elif re.fullmatch(r"(\d+(\.\d+)?[smhd])+", budget):
        seconds = sum(float(number) * UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)([smhd])", budget))
    else:
        raise BadSetting(f"budget {budget!r} is no time: write 45m, 2h or 1h30m")
    if not 0 < seconds < float("inf"):
        raise BadSetting(f"budget {budget!r} must be more than nothing")
    return seconds


def paces(
    cells: Sequence[Cell], data: Data, plans: Mapping[str, Plan], judges: Mapping[str, Judge], *, country: str
) -> dict[str, Pace]:
    """Name of each cell -> its pace; plans and judges by the backbones' names. `country`: for the meter of energy."""
    found, judging = {}, {}
    with own_threads():
        for cell in cells:
            plan = plans[cell.backbone]
            plan.take_effect()
            if cell.backbone not in judging:
                judging[cell.backbone] = _seconds_of_judging(cell, judges[cell.backbone])
            began = time.perf_counter()
            cost.EnergyMeter(country).stop()
            technique = cell.build()
            start = time.perf_counter() - began
            found[cell.name] = Pace(_seconds_of_an_epoch(cell, technique, data, plan), judging[cell.backbone], start)
            say(f"{cell.name}: {found[cell.name].epoch:.1f} s an epoch, {found[cell.name].judging:.1f} s a judgement")
    return found


def _seconds_of_judging(cell: Cell, judge: Judge) -> float:
    began = time.perf_counter()
    judge.rows(cell.build_encoder(), {}, probes=list(judge.probes), seed=cell.seed, label=f"timing {cell.backbone}")
    return time.perf_counter() - began


def _seconds_of_an_epoch(cell: Cell, technique: Technique, data: Data, plan: Plan) -> float:
    """Of steps on the images themselves, and of the features whose rank every epoch logs."""
    learner = Learner(technique, cell.recipe.suited(technique.encoder), plan)
    rng, batch, images = plan.generator(0), learner.recipe.batch, data.pool
    stream = chain.from_iterable(images.batches(batch, plan.device, epoch, rng) for epoch in count(1))
    steps, began = 0, 0.0
    technique.train()
    for number, pixels in enumerate(stream):
        if number == DRAINED:
            began = time.perf_counter()
        learner.step(pixels, rng)["loss"].item()
        technique.after_step(0.0)
        steps = number + 1 - DRAINED
        if steps >= LEAST_TIMED and time.perf_counter() - began > TIMED_SECONDS:
            break
    step = (time.perf_counter() - began) / steps
    began = time.perf_counter()
    extract(technique.encoder, images.take(slice(0, RANKED)), plan=plan, label=f"timing {cell.name}").sum().item()
    return step * (len(images) // batch) + time.perf_counter() - began


class Schedule(NamedTuple):
    """A search that fits: how often encoders are saved, the rungs, and the seconds that it is thought to take."""

    every: int
    rungs: list[Rung]
    seconds: float

    @property
    def epochs(self) -> int:
        """Of a whole training."""
        return self.rungs[-1].epoch


def fitting(paces: Mapping[str, Pace], seconds: float, *, workers: int, afterwards: float) -> Schedule:
    """The longest trainings that the seconds are enough for, if those that go on are the slowest of all.

    `afterwards`: what follows the search for every epoch of a training, in seconds. BadSetting with what would fit
    where not even the shortest do.
    """

    def price(every: int, alone: int) -> float:
        rungs = rungs_of(len(paces), every, alone)
        return _seconds_of_search(list(paces.values()), rungs, every, workers, afterwards)

    alone = CHECKPOINTS if price(1, CHECKPOINTS) <= seconds else 1
    if price(1, alone) > seconds:
        left = duration(max(0, seconds))
        raise BadSetting(
            f"{len(paces)} candidates need {duration(price(1, alone))} for the shortest search, and {left} of the "
            f"budget are left for it: give a larger --budget, fewer --techniques or --backbones, or a --limit"
        )
    low, high = 1, 2
    while price(high, alone) <= seconds:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if price(middle, alone) <= seconds else (low, middle)
    return Schedule(low, rungs_of(len(paces), low, alone), price(low, alone))


def _seconds_of_search(
    paces: Sequence[Pace], rungs: Sequence[Rung], every: int, workers: int, afterwards: float
) -> float:
    total, before = sum(pace.judging for pace in paces), 0  # of the untrained encoders
    for epoch, candidates in rungs:
        checkpoints = (epoch - before) // every
        own = [pace.start + checkpoints * (every * pace.epoch + pace.judging) for pace in paces]
        own = sorted(own, reverse=True)[:candidates]
        total, before = total + max(sum(own) * 1.0, max(own) * min(workers, candidates)), epoch
    return total / workers + before * afterwards
