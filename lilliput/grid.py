"""A study: a grid of techniques x backbones x seeds -> the cells still missing -> run and judge each -> report."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lilliput import catalog, checkpoint, cost, crew, results, signals
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.features import Exam, measure_batch_norm, split
from lilliput.files import alone, clear_drafts, locked, read_json, set_aside, write_json, write_whole
from lilliput.judge import Judge, Pixels, costs, judge_run, judges_all
from lilliput.plan import Plan, choose, own_threads, seeded
from lilliput.probes import finetune
from lilliput.progress import duration, say
from lilliput.recipe import SMALL
from lilliput.run import Cell, build_checked, commit, machine, plan_for, pretrain, stop_rule, versions
from lilliput.store import Data, Subset

GROWS = ("techniques", "backbones", "seeds", "probes")  # settings of a study to which more may be added
KEYED = ("recipes", "options", "probe_options")  # and those that are by technique or probe


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
    results.mend(out)
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
    failed, elsewhere, ended, begun, began = [], [], 0, set(), time.perf_counter()
    estimate = _Estimate(len(jobs), workers)
    for event in events:
        if isinstance(event, crew.Started):
            begun.add(event.name)  # a second time after its worker died
            say(f"[{len(begun)}/{len(jobs)}] {event.name.replace('-', ' ')}{estimate.left(len(begun))}")
            continue
        ended += not event.stopped
        error_file = out / "cells" / event.name / "error.txt"
        if event.elsewhere:
            elsewhere.append(event.name)
            say(f"{event.name} is in work by another process")
        elif event.error is None:
            error_file.unlink(missing_ok=True)
        else:
            failed.append(event.name)
            error_file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(error_file, f"{event.error}\n{event.details}".encode("utf-8", "backslashreplace"))
            say(f"{event.name} failed: {event.error}")
        if event.worked:
            estimate.add(event.seconds)
    done = ended - len(failed) - len(elsewhere)
    say(f"{done} of {len(jobs)} done in {duration(time.perf_counter() - began)}")
    if elsewhere:
        say(f"{', '.join(elsewhere)}: in work by another process on {out}; the report is whole when that has ended")
    signals.check(f"stopped with {done} of {len(jobs)} done, and what was in work saved in {out}")
    return failed


class Workshop:
    """A study's folder while it is worked in: one plan per backbone, one judge per plan, the rows that are there."""

    def __init__(self, grid: Grid, out: Path, record: dict[str, Any], *, energy_share: float):
        self.grid, self.out, self.record, self.energy_share = grid, out, record, energy_share
        self.judges: dict[Plan, Judge] = {}
        self.seen: tuple[tuple[int, int], pd.DataFrame] = (-1, -1), pd.DataFrame()

    def plan(self, cell: Cell) -> Plan:
        """The backbone's plan: measured once, then kept with the study, so that all its cells compute alike."""
        plans = self.record["plans"]
        if cell.backbone not in plans:
            plan = plan_for(cell, self.grid.data.pool.image_size, self.grid.device, self.grid.fixed)
            with locked(self.out):  # another process may have measured it meanwhile: the first to write it is right
                record = read_json(self.out / "study.json")
                plans |= {cell.backbone: plan.as_dict(), **record["plans"]}
                write_json(self.out / "study.json", {**record, "plans": plans})
        plan = Plan(**plans[cell.backbone])
        plan.take_effect()
        return plan

    def judge(self, plan: Plan) -> Judge:
        if plan not in self.judges:
            data = self.grid.judge
            assert data.train is not None and data.test is not None
            self.judges[plan] = Judge(
                data.name, data.train, data.test, self.grid.probes, plan=plan, data=self.grid.data.name
            )
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
        rows = rows[rows["judge"] == self.grid.judge.name]
        return results.done(rows)

    def missing(self, about: dict, probes: list[str]) -> list[str]:
        done = self.done(about["technique"], about["backbone"], about["seed"])
        return [probe for probe in probes if (about["epoch"], probe) not in done]


def _jobs(grid: Grid) -> Iterator[tuple[str, Callable[[Workshop], bool]]]:
    """(name, function) of every baseline and cell. A function says whether there was anything to do."""
    yield "pixels", partial(_alone, "pixels", _pixels)
    firsts = {(cell.backbone, cell.seed): cell for cell in reversed(grid.cells)}
    for cell in grid.cells:
        if firsts[cell.backbone, cell.seed] is cell:
            baseline = cell.name.removeprefix(cell.technique)
            for name, job in ((f"random_init{baseline}", _random_init), (f"supervised{baseline}", _supervised)):
                yield name, partial(_alone, name, partial(job, cell))
        yield cell.name, partial(_alone, cell.name, partial(_pretrained, cell))


def _alone(name: str, job: Callable[[Workshop], bool], shop: Workshop) -> bool:
    """Do the job unless another process has it in hand: several may work on one study's folder."""
    folder = shop.out / "cells" / name
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return job(shop)


def _baseline(name: str, backbone: str, seed: int, epoch: int) -> dict[str, Any]:
    return {"technique": name, "backbone": backbone, "seed": seed, "epoch": epoch, "recipe": ""}


def _traced(judge: Judge, about: dict[str, Any], shop: Workshop) -> dict[str, Any]:
    settings = {key: value for key, value in shop.record.items() if key not in (*GROWS, *KEYED, "plans")}
    return {**about, "trace": judge.trace({**settings, **about})}


def _pixels(shop: Workshop) -> bool:
    about = _baseline("pixels", "", 0, 0)
    probes = shop.missing(about, _frozen(shop.grid))
    if probes:
        judge = shop.judge(choose(shop.grid.device, shop.grid.fixed))
        about = _traced(judge, about, shop)
        judge.keep(shop.out, judge.rows(Pixels(), about, probes=probes, seed=0, label="pixels"))
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
        judge, label = shop.judge(plan), name.replace("_", " ")
        about = _traced(judge, about, shop) | costs(sizes, None)
        judge.keep(shop.out, judge.rows(encoder, about, probes=probes, seed=cell.seed, label=label))
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
    about = _traced(judge, about, shop) | costs(sizes, spent)
    began = time.perf_counter()
    values = list(finetune.grade(exam, model))
    graded = time.perf_counter() - began
    rows = judge.rows_of(about, "finetune", values, graded)
    rows += judge.rows(model[0], about, probes=_frozen(grid), seed=cell.seed, label="supervised")
    judge.keep(shop.out, rows)
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
    judge = shop.judge(plan)
    for rows in judge_run(folder, judge, done=done):
        judge.keep(shop.out, rows)
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
    try:
        log = checkpoint.trusted_log(folder)
    except BadData:  # to be mended by going on with the run
        return False
    if (
        not log
        or (log[-1]["epoch"] not in saved)
        or (log[-1]["epoch"] < cell.recipe.epochs and "stopped" not in log[-1])
    ):
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
    try:
        holds_else = out.exists() and any(not path.name.startswith(".") for path in out.iterdir())
        if holds_else and not any(out.glob("study.json*")):
            raise BadSetting(f"{out} is not empty and holds no study; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            clear_drafts(out)
            found = _joined(settings, out)
            kinds = {name: catalog.technique(name).contrastive for name in found["techniques"]}
            about = {"contrastive": kinds, "country": grid.country, "machine": machine(), "versions": versions()}
            record = {**found, **about, "commit": commit()}
            write_json(out / "study.json", record)
        (out / "cells").mkdir(exist_ok=True)
    except OSError as error:
        raise LilliputError(f"cannot write in {out}: {error.strerror}; choose another --out") from None
    return record


def _joined(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """These settings with those of the study that is there, which may only grow; and its plans."""
    try:
        record = read_json(out / "study.json") if (out / "study.json").exists() else None
    except BadData as error:
        set_aside(out / "study.json", error)
        record = None
    if record is None:  # none, or damaged; and then the cells that were begun know their plans
        return {**settings, "plans": _plans_of_cells(out)}
    checkpoint.check_format(record.pop("format", None), out)
    fixed = {key: value for key, value in settings.items() if key not in (*GROWS, *KEYED, "format")}
    checkpoint.same_settings({key: record.get(key) for key in fixed}, fixed, out)
    for key in KEYED:
        theirs = record.get(key, {})
        both = {name: value for name, value in settings[key].items() if name in theirs}
        checkpoint.same_settings({name: theirs[name] for name in both}, both, out)
        settings[key] = {**theirs, **settings[key]}
    for key in GROWS:
        settings[key] = list(dict.fromkeys([*record.get(key, []), *settings[key]]))
    return {**settings, "plans": record.get("plans", {})}


def _plans_of_cells(out: Path) -> dict[str, dict]:
    plans = {}
    for path in out.glob("cells/*/run.json"):
        with contextlib.suppress(BadData, KeyError):
            record = read_json(path)
            plans[record["backbone"]] = record["plan"]
    return plans


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
        "judge_origin": judge.train.origin if isinstance(judge.train, Subset) else None,
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
