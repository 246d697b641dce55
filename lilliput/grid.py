"""A study: a grid of techniques x backbones x seeds -> the cells still missing -> run and judge each -> report."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lilliput import catalog, checkpoint, cost, crew, results
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.features import Exam, measure_batch_norm, split
from lilliput.files import read_json, write_json, write_whole
from lilliput.judge import Judge, Pixels, costs, judge_run, judges_all
from lilliput.plan import Plan, choose, own_threads, seeded
from lilliput.probes import finetune
from lilliput.progress import duration, say
from lilliput.recipe import SMALL
from lilliput.run import Cell, build_checked, commit, machine, plan_for, pretrain, stop_rule, versions
from lilliput.store import Data


@dataclass(frozen=True)
class Grid:
    """What a study is made of."""

    cells: list[Cell]
    data: Data
    judge: Data
    probes: dict[str, dict[str, Any]]  # name -> options
    every: int
    device: str | None = None
    fixed: Mapping[str, Any] | None = None  # of the plan
    country: str = "USA"
    until_converged: int | None = None
    score: str | None = None

    @property
    def epochs(self) -> int:
        return self.cells[0].recipe.epochs


def study(grid: Grid, out: Path, *, workers: int = 1) -> list[str]:
    """Run what is missing in `out`, judge it, write results.csv as it goes; returns the names of cells that failed.

    `workers`: so many cells at once, each in a process of its own. Raises BadSetting if `out` holds another study. A
    cell that fails leaves its error in its folder; the others go on.
    """
    _check(grid)
    record = _open(grid, out)
    jobs = list(_jobs(grid))
    workers = min(workers, len(jobs))
    threads = max([plan.get("threads") or 1 for plan in record["plans"].values()], default=1)
    if workers > (most := max(1, crew.cores() // threads)):
        say(f"{out} was begun with {threads} threads a cell, so {most} at once")
        workers = most
    with own_threads():
        return _all_done(grid, out, record, jobs, workers)


def _all_done(grid: Grid, out: Path, record: dict[str, Any], jobs: list, workers: int) -> list[str]:
    make_shop = partial(Workshop, grid, out, record, energy_share=1 / workers)
    shop = make_shop()
    if workers > 1:
        torch.set_num_threads(max(1, crew.cores() // workers))  # what a worker has, so that plans are measured alike
        for cell in {cell.backbone: cell for cell in reversed(grid.cells)}.values():
            with contextlib.suppress(Exception):  # its own cells will say so, and cost no others
                shop.plan(cell)
    events = crew.in_turn(jobs, shop) if workers == 1 else crew.side_by_side(jobs, make_shop, workers)
    failed, number, began = [], 0, time.perf_counter()
    estimate = _Estimate(len(jobs), workers)
    for event in events:
        if isinstance(event, crew.Started):
            number += 1
            say(f"[{number}/{len(jobs)}] {event.name.replace('-', ' ')}{estimate.left(number)}")
            continue
        error_file = out / "cells" / event.name / "error.txt"
        if event.error is None:
            error_file.unlink(missing_ok=True)
        else:
            failed.append(event.name)
            error_file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(error_file, f"{event.error}\n{event.details}".encode())
            say(f"{event.name} failed: {event.error}")
        if event.worked:
            estimate.add(event.seconds)
    say(f"{len(jobs) - len(failed)} of {len(jobs)} done in {duration(time.perf_counter() - began)}")
    return failed


class Workshop:
    """A study's folder while it is worked in: one plan per backbone, one judge per plan, the rows that are there."""

    def __init__(self, grid: Grid, out: Path, record: dict[str, Any], *, energy_share: float):
        self.grid, self.out, self.record, self.energy_share = grid, out, record, energy_share
        self.judges: dict[Plan, Judge] = {}

    def plan(self, cell: Cell) -> Plan:
        """The backbone's plan: measured once, then kept with the study, so that all its cells compute alike."""
        plans = self.record["plans"]
        if cell.backbone not in plans:
            plan = plan_for(cell, self.grid.data.pool.image_size, self.grid.device, self.grid.fixed)
            plans[cell.backbone] = plan.as_dict()
            write_json(self.out / "study.json", self.record)
        plan = Plan(**plans[cell.backbone])
        plan.take_threads()
        return plan

    def judge(self, plan: Plan) -> Judge:
        if plan not in self.judges:
            data = self.grid.judge
            assert data.train is not None and data.test is not None
            self.judges[plan] = Judge(
                data.name, data.train, data.test, self.grid.probes, plan=plan, data=self.grid.data.name
            )
        return self.judges[plan]

    def keep(self, rows: list[dict]) -> None:
        results.append(self.out, rows)

    def done(self, technique: str, backbone: str, seed: int) -> set[tuple[int, str]]:
        """(epoch, probe) of the rows that are there."""
        rows = results.read(self.out)
        for column, value in (("technique", technique), ("backbone", backbone), ("seed", seed)):
            rows = rows[rows[column] == value]
        rows = rows[rows["judge"] == self.grid.judge.name]
        return set(zip(rows["epoch"].astype(int), rows["probe"], strict=True))

    def missing(self, about: dict, probes: list[str]) -> list[str]:
        done = self.done(about["technique"], about["backbone"], about["seed"])
        return [probe for probe in probes if (about["epoch"], probe) not in done]


def _jobs(grid: Grid) -> Iterator[tuple[str, Callable[[Workshop], bool]]]:
    """(name, function) of every baseline and cell. A function says whether there was anything to do."""
    yield "pixels", _pixels
    firsts = {(cell.backbone, cell.seed): cell for cell in reversed(grid.cells)}
    for cell in grid.cells:
        if firsts[cell.backbone, cell.seed] is cell:
            baseline = cell.name.removeprefix(cell.technique)
            yield f"random_init{baseline}", partial(_random_init, cell)
            yield f"supervised{baseline}", partial(_supervised, cell)
        yield cell.name, partial(_pretrained, cell)


def _baseline(name: str, backbone: str, seed: int, epoch: int) -> dict[str, Any]:
    return {"technique": name, "backbone": backbone, "seed": seed, "epoch": epoch, "recipe": ""}


def _pixels(shop: Workshop) -> bool:
    about = _baseline("pixels", "", 0, 0)
    probes = shop.missing(about, _frozen(shop.grid))
    if probes:
        judge = shop.judge(choose(shop.grid.device, shop.grid.fixed))
        shop.keep(judge.rows(Pixels(), about, probes=probes, seed=0, label="pixels"))
    return bool(probes)


def _random_init(cell: Cell, shop: Workshop) -> bool:
    """The untrained network as its library leaves it, and with its batch norm at work, as it is in a trained one."""
    worked = False
    for name, measured in (("random_init", False), ("random_init_measured", True)):
        about = _baseline(name, cell.backbone, cell.seed, 0)
        probes = shop.missing(about, _frozen(shop.grid))
        if not probes:
            continue
        plan, pool = shop.plan(cell), shop.grid.data.pool
        encoder, sizes = _plain_encoder(cell, pool.image_size)
        if measured and not measure_batch_norm(plan.place(encoder), pool, plan=plan):
            continue
        about |= costs(sizes, None)
        label = name.replace("_", " ")
        shop.keep(shop.judge(plan).rows(encoder, about, probes=probes, seed=cell.seed, label=label))
        worked = True
    return worked


def _supervised(cell: Cell, shop: Workshop) -> bool:
    """The same network, as many images seen as in pretraining, but with labels; by the settings of the small recipe."""
    grid = shop.grid
    about = _baseline("supervised", cell.backbone, cell.seed, grid.epochs)
    if not shop.missing(about, ["finetune", *_frozen(grid)]):
        return False
    plan = shop.plan(cell)
    judge = shop.judge(plan)
    encoder, sizes = _plain_encoder(cell, grid.data.pool.image_size)
    exam = Exam(encoder, judge.train, judge.test, plan=plan, seed=cell.seed, label="supervised")
    seen = grid.epochs * len(grid.data.pool)
    meter = cost.EnergyMeter(grid.country, share=shop.energy_share)
    cost.reset_peak_memory(plan.device)
    began = time.perf_counter()
    try:
        model = finetune.learn(exam, SMALL.replace(batch=cell.recipe.batch), images_seen=seen)
        seconds = time.perf_counter() - began
        kwh, grams = meter.read()
    finally:
        meter.stop()
    spent = {
        "total_seconds": seconds,
        "images_per_s": seen / seconds,
        "peak_memory_mib": cost.peak_memory_mib(plan.device),
        "kwh": kwh,
        "grams_co2": grams,
    }
    about |= costs(sizes, spent)
    began = time.perf_counter()
    values = list(finetune.grade(exam, model))
    graded = time.perf_counter() - began
    rows = [judge.row(about, "finetune", metric, value, graded) for metric, value in values]
    shop.keep(rows + judge.rows(model[0], about, probes=_frozen(grid), seed=cell.seed, label="supervised"))
    return True


def _pretrained(cell: Cell, shop: Workshop) -> bool:
    grid, folder = shop.grid, shop.out / "cells" / cell.name
    done = shop.done(cell.technique, cell.backbone, cell.seed)
    if _finished(folder, cell, done, grid):
        return False
    plan = shop.plan(cell)
    pretrain(
        cell, grid.data, folder, every=grid.every, device=plan.device, fixed=plan.fixed(), country=grid.country,
        until_converged=grid.until_converged, score=grid.score, energy_share=shop.energy_share,
    )  # fmt: skip
    for rows in judge_run(folder, shop.judge(plan), done=done):
        shop.keep(rows)
    return True


def _plain_encoder(cell: Cell, size: int) -> tuple[torch.nn.Module, dict]:
    """The backbone as initialised by the seed, and its sizes."""
    build = catalog.backbone_builder(cell.backbone, **cell.backbone_options)
    with seeded(cell.seed):
        encoder = build()
    sizes = {
        "parameters": cost.parameters(encoder),
        "multiply_adds": cost.multiply_adds(encoder, size),
        "multiply_adds_224": cost.multiply_adds_or_none(encoder, 224),
    }
    return encoder, sizes


def _frozen(grid: Grid) -> list[str]:
    """The probes that leave the encoder frozen: a baseline's fine-tuning is the supervised baseline."""
    return [probe for probe in grid.probes if probe != "finetune"]


def _finished(folder: Path, cell: Cell, done: set, grid: Grid) -> bool:
    saved = checkpoint.encoders(folder)
    if not (folder / checkpoint.STATE).exists():
        return False
    if cell.recipe.epochs not in saved and not any("stopped" in row for row in checkpoint.read_log(folder)):
        return False
    wanted = {(epoch, probe) for probe in grid.probes for epoch in saved if judges_all(probe) or epoch == max(saved)}
    return wanted <= done


def _check(grid: Grid) -> None:
    """All that can be refused, before any work."""
    from lilliput.backbone import check_image_size

    if not grid.cells:
        raise BadSetting("a study needs at least one technique and one backbone")
    if grid.judge.train is None or grid.judge.test is None:
        raise BadData(
            f"{grid.judge.name} has no labels to judge by: put images in train/<class>/ and test/<class>/, "
            f"name a labelled data set with --judge, or use `lilliput pretrain`"
        )
    assert grid.judge.train.labels is not None
    split(grid.judge.train.labels)
    cost.check_country(grid.country)
    stop_rule(grid.data, grid.until_converged, grid.score)
    pool, batch = len(grid.data.pool), max(cell.recipe.batch for cell in grid.cells)
    if pool < batch:
        raise BadSetting(
            f"a batch of {batch} is larger than the {pool} images of {grid.data.name}; use --batch {pool} or less"
        )
    for backbone in dict.fromkeys(cell.backbone for cell in grid.cells):
        check_image_size(catalog.backbone_builder(backbone)(), grid.data.pool.image_size)
    for cell in {cell.technique: cell for cell in grid.cells}.values():
        build_checked(cell)


def _open(grid: Grid, out: Path) -> dict[str, Any]:
    """Write study.json, or see that the one there is of this study, and return it. Cells may be added to it."""
    settings = _settings(grid)
    path = out / "study.json"
    grows = ("techniques", "backbones", "seeds", "probes")
    keyed = ("recipes", "options", "probe_options")  # by technique or probe
    plans: dict[str, dict] = {}
    if path.exists():
        record = read_json(path)
        fixed = {key: value for key, value in settings.items() if key not in grows + keyed}
        checkpoint.same_settings({key: record.get(key) for key in fixed}, fixed, out)
        for key in keyed:
            theirs = record.get(key, {})
            both = {name: value for name, value in settings[key].items() if name in theirs}
            checkpoint.same_settings({name: theirs[name] for name in both}, both, out)
            settings[key] = {**theirs, **settings[key]}
        plans = record.get("plans", {})
        for key in grows:
            settings[key] = list(dict.fromkeys([*record.get(key, []), *settings[key]]))
    try:
        if not path.exists() and out.exists() and any(out.iterdir()):
            raise BadSetting(f"{out} is not empty and holds no study; choose another --out")
        (out / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LilliputError(f"cannot write in {out}: {error.strerror}; choose another --out") from None
    kinds = {name: catalog.technique(name).contrastive for name in settings["techniques"]}
    about = {"contrastive": kinds, "country": grid.country, "machine": machine(), "versions": versions()}
    record = {**settings, **about, "commit": commit(), "plans": plans}
    write_json(path, record)
    return record


def _settings(grid: Grid) -> dict[str, Any]:
    first, pool, judge = grid.cells[0], grid.data.pool, grid.judge
    assert judge.train is not None and judge.test is not None
    shared = {cell.technique: dataclasses.asdict(cell.recipe) for cell in grid.cells}
    return {
        "format": checkpoint.FORMAT,
        "techniques": list(dict.fromkeys(cell.technique for cell in grid.cells)),
        "backbones": list(dict.fromkeys(cell.backbone for cell in grid.cells)),
        "seeds": list(dict.fromkeys(cell.seed for cell in grid.cells)),
        "probes": list(grid.probes),
        "probe_options": {name: options for name, options in grid.probes.items() if options},
        "data": grid.data.name,
        "data_digest": pool.digest,
        "pool_images": len(pool),
        "judge": judge.name,
        "judge_digests": [judge.train.digest, judge.test.digest],
        "train_images": len(judge.train),
        "test_images": len(judge.test),
        "classes": judge.train.classes,
        "image_size": pool.image_size,
        "epochs": grid.epochs,
        "every": grid.every,
        "until_converged": stop_rule(grid.data, grid.until_converged, grid.score),
        "batch": first.recipe.batch,
        "recipe": first.recipe_name,
        "recipes": shared,
        "options": {cell.technique: cell.technique_options for cell in grid.cells},
        "backbone_options": first.backbone_options,
    }


class _Estimate:
    """Time left, from the jobs that were really done."""

    def __init__(self, total: int, workers: int):
        self.total, self.workers = total, workers
        self.seconds: list[float] = []

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def left(self, number: int) -> str:
        if len(self.seconds) < 3:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        return f", about {duration(mean * (self.total - number + 1) / self.workers)} left"
