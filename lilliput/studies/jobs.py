"""The jobs of a study: every baseline and cell, done where its rows are missing."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from lilliput.backbones import BATCH_NORMS, stock_file
from lilliput.errors import BadData
from lilliput.optim.recipe import SMALL
from lilliput.probes import LabelledExam, finetune, measure_batch_norm
from lilliput.studies import results, supervised
from lilliput.studies.grid import Grid
from lilliput.studies.judge import Judge, Pixels, costs, judge_run, judges_all
from lilliput.studies.record import shared_settings
from lilliput.system import cost, signals
from lilliput.system.locks import alone, locked
from lilliput.system.plan import Plan, choose
from lilliput.system.progress import say
from lilliput.system.records import read_json, write_json
from lilliput.system.seeds import seeded
from lilliput.tracking import followed
from lilliput.training.cell import Cell, cell_name, plan_for
from lilliput.training.encoders import saved_encoders
from lilliput.training.initial import IMAGENET, init_from
from lilliput.training.record import read_run
from lilliput.training.run import pretrain
from lilliput.training.state import trusted_log


class Closed(Exception):
    """There is work for a workshop that is closed."""


class Workshop:
    """A study's folder while it is worked in: one plan per backbone, one judge per plan, the rows that are there."""

    def __init__(self, grid: Grid, out: Path, record: dict[str, Any], *, share: float | None, is_closed: bool = False):
        """`share`: the part of the machine's energy that is this workshop's; None: by its threads. In one that
        `is_closed` nothing can be measured or judged: Closed says that there would be work.
        """
        self.grid, self.out, self.record, self.is_closed = grid, out, record, is_closed
        share = share or min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
        self.resources = replace(grid.resources, share=share)
        self.judges: dict[Plan, Judge] = {}
        self.seen: tuple[tuple[int, int], pd.DataFrame] = (-1, -1), pd.DataFrame()

    def plan(self, cell: Cell) -> Plan:
        """The backbone's plan: measured once, then kept with the study, so that all its cells compute alike."""
        if self.is_closed:
            raise Closed
        plans = self.record["plans"]
        if cell.backbone not in plans:
            plan = plan_for(cell, self.grid.data.pool.image_size, self.resources)
            with locked(self.out):  # another process may have measured it meanwhile: the first to write it is right
                record = read_json(self.out / "study.json")
                plans |= {cell.backbone: plan.as_dict(), **record["plans"]}
                write_json(self.out / "study.json", {**record, "plans": plans})
        plan = Plan(**plans[cell.backbone])
        plan.take_effect()
        return plan

    def judge(self, plan: Plan) -> Judge:
        if self.is_closed:
            raise Closed
        if plan not in self.judges:
            images, names = self.grid.labelled.judging, self.record
            self.judges[plan] = Judge(names["judge"], *images, self.grid.probes, plan=plan, data=names["data"])
        return self.judges[plan]

    def rows(self) -> pd.DataFrame:
        """Read again only where the file has changed: a study that goes on asks for every cell."""
        path = self.out / "results.csv"
        state = (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else (0, 0)
        if state != self.seen[0]:
            self.seen = state, results.read(self.out)
        return self.seen[1]

    def done(self, technique: str, backbone: str, seed: int) -> set[tuple[int, str]]:
        """(epoch, probe) that are judged, with all their rows there."""
        rows = self.rows()
        for column, value in (("technique", technique), ("backbone", backbone), ("seed", seed)):
            rows = rows[rows[column] == value]
        rows = rows[rows["judge"] == self.record["judge"]]
        return results.done(rows)

    def missing(self, identity: dict, probes: list[str]) -> list[str]:
        done = self.done(identity["technique"], identity["backbone"], identity["seed"])
        return [probe for probe in probes if (identity["epoch"], probe) not in done]


class Job(NamedTuple):
    """A baseline or a cell."""

    name: str
    technique: str  # or baseline
    backbone: str  # "" for pixels
    work: Callable[[Workshop], bool]  # says whether there was anything to do

    @property
    def kind(self) -> tuple[str, str]:
        return self.technique, self.backbone

    def is_done(self, closed: Workshop) -> bool:
        """Whether there is nothing to do, by a workshop that is closed."""
        try:
            return not self.work(closed)
        except Closed:
            return False

    @property
    def alone(self) -> Callable[[Workshop], bool]:
        """The work, unless another process has it in hand."""
        return partial(_alone, self.name, self.work)


def jobs_of(grid: Grid) -> Iterator[Job]:
    """Every baseline and cell."""
    if "pixels" in grid.baselines:
        yield Job("pixels", "pixels", "", _pixels)
    cells = _in_rounds(grid.cells)
    firsts = {(cell.backbone, cell.seed): cell for cell in reversed(cells)}
    for cell in cells:
        if firsts[cell.backbone, cell.seed] is cell:
            baseline = cell.name.removeprefix(cell.technique)
            again = {"imagenet"} if cell.seed != grid.cells[0].seed else set()
            for kind in [kind for kind in OF_BACKBONES if kind in grid.baselines and kind not in again]:
                name = f"{kind}{baseline}"
                yield Job(name, kind, cell.backbone, partial(OF_BACKBONES[kind], cell))
        yield Job(cell.name, cell.technique, cell.backbone, partial(_pretrained, cell))


def _in_rounds(cells: list[Cell]) -> list[Cell]:
    """Seed by seed; of each, every backbone is met once before any is met again, and so is every technique: what they
    cost is known early."""
    places = [list(dict.fromkeys(of)) for of in zip(*((c.seed, c.backbone, c.technique) for c in cells), strict=True)]
    seeds, backbones, techniques = places

    def round_of(cell: Cell) -> tuple[int, int, int]:
        technique = techniques.index(cell.technique)
        turn = (backbones.index(cell.backbone) - technique) % max(len(backbones), len(techniques))
        return seeds.index(cell.seed), turn, technique

    return sorted(cells, key=round_of)


def _alone(name: str, job: Callable[[Workshop], bool], shop: Workshop) -> bool:
    """Do the job unless another process has it in hand: several may work on one study's folder."""
    folder = shop.out / "cells" / name
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return job(shop)


def _baseline(name: str, backbone: str, seed: int, epoch: int) -> dict[str, Any]:
    return {"technique": name, "backbone": backbone, "seed": seed, "epoch": epoch, "recipe": ""}


def _traced(judge: Judge, identity: dict[str, Any], shop: Workshop) -> dict[str, Any]:
    settings = shared_settings(shop.record, identity["backbone"])
    return {**identity, "trace": judge.trace({**settings, **identity})}


def _pixels(shop: Workshop) -> bool:
    identity = _baseline("pixels", "", 0, 0)
    probes = shop.missing(identity, shop.grid.frozen_probes)
    if probes:
        judge = shop.judge(choose(shop.resources.device, shop.resources.plan))
        identity = _traced(judge, identity, shop)
        judge.keep(shop.out, judge.rows(Pixels(), identity, probes=probes, seed=0, label="pixels"))
    return bool(probes)


def _random_init(cell: Cell, shop: Workshop) -> bool:
    """The untrained network as its library leaves it, and with its batch norm at work, as it is in a trained one."""
    worked = False
    for name, measured in (("random_init", False), ("random_init_measured", True)):
        identity = _baseline(name, cell.backbone, cell.seed, 0)
        probes = shop.missing(identity, shop.grid.frozen_probes)
        if not probes:
            continue
        encoder = cell.build_backbone()
        if measured and not any(isinstance(layer, BATCH_NORMS) for layer in encoder.modules()):
            continue
        plan, pool = shop.plan(cell), shop.grid.data.pool
        sizes = cost.sizes(encoder, pool.image_size)
        if measured:
            measure_batch_norm(plan.place(encoder), pool, plan=plan)
        judge, label = shop.judge(plan), name.replace("_", " ")
        identity = _traced(judge, identity, shop) | costs(sizes, None)
        judge.keep(shop.out, judge.rows(encoder, identity, probes=probes, seed=cell.seed, label=label))
        worked = True
    return worked


def _imagenet(cell: Cell, shop: Workshop) -> bool:
    """The network as its library publishes it, which learned by ImageNet's labels; what stands in the way is said."""
    identity = _baseline("imagenet", cell.backbone, 0, 0)  # the same weights for every seed
    probes = shop.missing(identity, shop.grid.frozen_probes)
    if not probes:
        return False
    try:
        file = stock_file(cell.backbone, shop.grid.imagenet_weights, fetch=True)
        encoder = replace(cell, init=init_from(file, IMAGENET)).starting_builder()
    except BadData as error:
        say(f"imagenet {cell.backbone} is left out: {error}")
        return False
    plan = shop.plan(cell)
    judge = shop.judge(plan)
    identity = _traced(judge, identity, shop) | costs(cost.sizes(encoder, shop.grid.data.pool.image_size), None)
    judge.keep(shop.out, judge.rows(encoder, identity, probes=probes, seed=0, label="imagenet"))
    return True


def _supervised(cell: Cell, shop: Workshop) -> bool:
    """The same network, as many images seen as in pretraining, but with labels; by the settings of the small recipe."""
    grid = shop.grid
    epochs, batch = grid.budget
    identity = _baseline("supervised", cell.backbone, cell.seed, epochs)
    if not shop.missing(identity, ["finetune", *grid.frozen_probes]):
        return False
    plan = shop.plan(cell)
    judge = shop.judge(plan)
    with seeded(cell.seed):
        encoder = replace(cell, recipe=SMALL, init=None).starting_builder()
    sizes = cost.sizes(encoder, grid.data.pool.image_size)
    exam = LabelledExam(encoder, judge.train, judge.test, plan=plan, seed=cell.seed, label="supervised")
    seen = epochs * len(grid.data.pool)
    folder = shop.out / "cells" / cell_name("supervised", cell.backbone, cell.seed)
    learning = finetune.Learning(exam, SMALL.replace(batch=batch), images_seen=seen)
    spent = supervised.learn(learning, folder, shop.resources)
    spent["images_per_s"] = seen / spent["total_seconds"]
    identity = _traced(judge, identity, shop) | costs(sizes, spent)
    began = time.perf_counter()
    values = list(finetune.grade(exam, learning.model))
    graded = time.perf_counter() - began
    rows = judge.rows_of(identity, "finetune", values, graded)
    rows += judge.rows(learning.model[0], identity, probes=grid.frozen_probes, seed=cell.seed, label="supervised")
    judge.keep(shop.out, rows)
    supervised.forget(folder)
    return True


OF_BACKBONES = {"random_init": _random_init, "supervised": _supervised, "imagenet": _imagenet}


def _pretrained(cell: Cell, shop: Workshop) -> bool:
    grid, folder = shop.grid, shop.out / "cells" / cell.name
    done = shop.done(cell.technique, cell.backbone, cell.seed)
    if _finished(folder, cell, done, grid):
        return False
    if grid.until.is_over():
        raise signals.Stopped(f"{cell.name}: its time is over before it began")
    plan = shop.plan(cell)
    resources = replace(shop.resources, device=plan.device, plan=plan.fixed())
    train = partial(pretrain, cell, grid.data, folder, every=grid.every, resources=resources)
    train(stopping=grid.stopping, until=grid.until)
    judge = shop.judge(plan)
    with followed(resources.track, folder, cell.name, read_run(folder)) as follower:
        for rows in judge_run(folder, judge, done=done):
            judge.keep(shop.out, rows)
            follower.judged(rows)
    return True


def _finished(folder: Path, cell: Cell, done: set, grid: Grid) -> bool:
    saved = saved_encoders(folder)
    try:
        log = trusted_log(folder)
    except BadData:  # to be mended by going on with the run
        return False
    if not log or log[-1]["epoch"] not in saved:
        return False
    last = log[-1]["epoch"]
    if last < cell.recipe.epochs and "stopped" not in log[-1] and not grid.until.reaches(last):
        return False
    wanted = {(epoch, probe) for probe in grid.probes for epoch in saved if judges_all(probe) or epoch == max(saved)}
    return wanted <= done
