"""A study: a grid of techniques x backbones x seeds -> the cells still missing -> run and judge each -> report."""

import dataclasses
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lilliput import catalog, checkpoint, cost, results
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.features import Exam
from lilliput.files import read_json, write_json, write_whole
from lilliput.judge import Judge, Pixels, costs, judge_run
from lilliput.plan import Plan, choose, seeded
from lilliput.probes import finetune
from lilliput.progress import duration, say
from lilliput.run import Cell, commit, machine, plan_for, pretrain, versions
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
    precision: str | None = None
    country: str = "USA"

    @property
    def epochs(self) -> int:
        return self.cells[0].recipe.epochs


def study(grid: Grid, out: Path) -> list[str]:
    """Run what is missing in `out`, judge it, write results.csv as it goes; returns the names of cells that failed.

    Raises BadSetting if `out` holds another study. A cell that fails leaves its error in its folder; the others go on.
    """
    _check(grid)
    _open(grid, out)
    plans: dict[str, Plan] = {}
    failed = []
    began = time.perf_counter()
    jobs = list(_jobs(grid))
    estimate = _Estimate(len(jobs))
    for number, (name, job) in enumerate(jobs, 1):
        error_file = out / "cells" / name / "error.txt"
        say(f"[{number}/{len(jobs)}] {name.replace('-', ' ')}{estimate.left(number)}")
        since = time.perf_counter()
        try:
            worked = job(grid, out, plans)
            error_file.unlink(missing_ok=True)
        except KeyboardInterrupt:
            raise
        except Exception as error:  # one cell's failure must not cost the others
            failed.append(name)
            worked = True
            error_file.parent.mkdir(parents=True, exist_ok=True)
            line = " ".join(str(error).split()) or type(error).__name__
            details = "" if isinstance(error, LilliputError) else traceback.format_exc()
            write_whole(error_file, f"{line}\n{details}".encode())
            say(f"{name} failed: {line}")
        if worked:
            estimate.add(time.perf_counter() - since)
    say(f"{len(jobs) - len(failed)} of {len(jobs)} done in {duration(time.perf_counter() - began)}")
    return failed


def _jobs(grid: Grid) -> Iterator[tuple[str, Any]]:
    """(name, function) of every baseline and cell. A function says whether there was anything to do."""
    yield "pixels", _pixels
    firsts = {(cell.backbone, cell.seed): cell for cell in reversed(grid.cells)}
    for cell in grid.cells:
        if firsts[cell.backbone, cell.seed] is cell:
            baseline = cell.name.removeprefix(cell.technique)
            yield f"random_init{baseline}", partial(_random_init, cell)
            yield f"supervised{baseline}", partial(_supervised, cell)
        yield cell.name, partial(_pretrained, cell)


def _pixels(grid: Grid, out: Path, plans: dict) -> bool:
    about = {"technique": "pixels", "backbone": "", "seed": 0, "epoch": 0, "recipe": ""}
    probes = _missing(grid, out, about, _frozen(grid))
    if probes:
        judge = _judge(grid, choose(grid.device, grid.precision))
        rows = judge.rows(Pixels().requires_grad_(False), about, probes=probes, seed=0, label="pixels")
        results.append(out, rows)
    return bool(probes)


def _random_init(cell: Cell, grid: Grid, out: Path, plans: dict) -> bool:
    about = {"technique": "random_init", "backbone": cell.backbone, "seed": cell.seed, "epoch": 0, "recipe": ""}
    probes = _missing(grid, out, about, _frozen(grid))
    if probes:
        encoder, sizes = _plain_encoder(cell, grid.data.pool.image_size)
        about |= costs(sizes, None)
        judge = _judge(grid, _plan(grid, cell, plans))
        results.append(out, judge.rows(encoder, about, probes=probes, seed=cell.seed, label="random init"))
    return bool(probes)


def _supervised(cell: Cell, grid: Grid, out: Path, plans: dict) -> bool:
    """The same network, as many images seen as in pretraining, but with labels."""
    about = {
        "technique": "supervised",
        "backbone": cell.backbone,
        "seed": cell.seed,
        "epoch": grid.epochs,
        "recipe": "",
    }
    if not _missing(grid, out, about, ["finetune", *_frozen(grid)]):
        return False
    plan = _plan(grid, cell, plans)
    judge = _judge(grid, plan)
    encoder, sizes = _plain_encoder(cell, grid.data.pool.image_size)
    assert grid.judge.train is not None and grid.judge.test is not None
    exam = Exam(encoder, grid.judge.train, grid.judge.test, plan=plan, seed=cell.seed, label="supervised")
    meter = cost.EnergyMeter(grid.country)
    cost.reset_peak_memory(plan.device)
    began = time.perf_counter()
    seen = grid.epochs * len(grid.data.pool)
    model = finetune.learn(exam, images_seen=seen, batch=cell.recipe.batch)
    seconds = time.perf_counter() - began
    kwh, grams = meter.read()
    meter.stop()
    spent = {
        "total_seconds": seconds,
        "images_per_s": seen / seconds,
        "peak_memory_mib": cost.peak_memory_mib(plan.device),
        "kwh": kwh,
        "grams_co2": grams,
    }
    about |= costs(sizes, spent)
    rows = [judge.row(about, "finetune", metric, value, 0.0) for metric, value in finetune.grade(exam, model)]
    rows += judge.rows(model[0], about, probes=_frozen(grid), seed=cell.seed, label="supervised")
    results.append(out, rows)
    return True


def _pretrained(cell: Cell, grid: Grid, out: Path, plans: dict) -> bool:
    folder = out / "cells" / cell.name
    done = _done(out, {"technique": cell.technique, "backbone": cell.backbone, "seed": cell.seed}, grid)
    if _finished(folder, cell, done, grid):
        return False
    plan = _plan(grid, cell, plans)
    pretrain(cell, grid.data, folder, every=grid.every, plan=plan, country=grid.country)
    judge = _judge(grid, Plan(**read_json(folder / "run.json")["plan"]))
    for rows in judge_run(folder, judge, done=done):
        results.append(out, rows)
    return True


def _plain_encoder(cell: Cell, size: int) -> tuple[torch.nn.Module, dict]:
    """The backbone as initialised by the seed, and its sizes."""
    build = catalog.backbone_builder(cell.backbone, **cell.backbone_options)
    with seeded(cell.seed):
        encoder = build()
    sizes = {
        "parameters": cost.parameters(encoder),
        "multiply_adds": cost.multiply_adds(encoder, size),
        "multiply_adds_224": cost.multiply_adds(encoder, 224),
    }
    return encoder.requires_grad_(True), sizes


def _plan(grid: Grid, cell: Cell, plans: dict[str, Plan]) -> Plan:
    if cell.backbone not in plans:
        plans[cell.backbone] = plan_for(cell, grid.data.pool.image_size, grid.device, grid.precision)
    return plans[cell.backbone]


def _judge(grid: Grid, plan: Plan) -> Judge:
    assert grid.judge.train is not None and grid.judge.test is not None
    return Judge(grid.judge.name, grid.judge.train, grid.judge.test, grid.probes, plan=plan, data=grid.data.name)


def _frozen(grid: Grid) -> list[str]:
    """The probes that leave the encoder frozen: a baseline's fine-tuning is the supervised baseline."""
    return [probe for probe in grid.probes if probe != "finetune"]


def _done(out: Path, about: dict, grid: Grid) -> set[tuple[int, str]]:
    """(epoch, probe) of the rows that are there."""
    rows = results.read(out)
    for column in ("technique", "backbone", "seed"):
        rows = rows[rows[column] == about[column]]
    rows = rows[rows["judge"] == grid.judge.name]
    return set(zip(rows["epoch"].astype(int), rows["probe"], strict=True))


def _missing(grid: Grid, out: Path, about: dict, probes: list[str]) -> list[str]:
    done = _done(out, about, grid)
    return [probe for probe in probes if (about["epoch"], probe) not in done]


def _finished(folder: Path, cell: Cell, done: set, grid: Grid) -> bool:
    saved = checkpoint.encoders(folder)
    if cell.recipe.epochs not in saved or not (folder / checkpoint.STATE).exists():
        return False
    frozen = all((epoch, probe) in done for epoch in saved for probe in _frozen(grid))
    return frozen and all((cell.recipe.epochs, probe) in done for probe in grid.probes)


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
    pool, batch = len(grid.data.pool), max(cell.recipe.batch for cell in grid.cells)
    if pool < batch:
        raise BadSetting(
            f"a batch of {batch} is larger than the {pool} images of {grid.data.name}; use --batch {pool} or less"
        )
    for backbone in dict.fromkeys(cell.backbone for cell in grid.cells):
        check_image_size(catalog.backbone_builder(backbone)(), grid.data.pool.image_size)


def _open(grid: Grid, out: Path) -> None:
    """Write study.json, or see that the one there is of this study. Cells may be added to it."""
    settings = _settings(grid)
    path = out / "study.json"
    grows = ("techniques", "backbones", "seeds", "probes")
    keyed = ("recipes", "options", "probe_options")  # by technique or probe
    if path.exists():
        record = read_json(path)
        fixed = {key: value for key, value in settings.items() if key not in grows + keyed}
        checkpoint.same_settings({key: record.get(key) for key in fixed}, fixed, out)
        for key in keyed:
            theirs = record.get(key, {})
            both = {name: value for name, value in settings[key].items() if name in theirs}
            checkpoint.same_settings({name: theirs[name] for name in both}, both, out)
            settings[key] = {**theirs, **settings[key]}
        for key in grows:
            settings[key] = list(dict.fromkeys([*record.get(key, []), *settings[key]]))
    elif out.exists() and any(out.iterdir()):
        raise BadSetting(f"{out} is not empty and holds no study; choose another --out")
    try:
        (out / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LilliputError(f"cannot write in {out}: {error.strerror}; choose another --out") from None
    write_json(path, {**settings, "machine": machine(), "versions": versions(), "commit": commit()})


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
        "batch": first.recipe.batch,
        "recipe": first.recipe_name,
        "recipes": shared,
        "options": {cell.technique: cell.technique_options for cell in grid.cells},
        "backbone_options": first.backbone_options,
        "country": grid.country,
    }


class _Estimate:
    """Time left, from the jobs that were really done."""

    def __init__(self, total: int):
        self.total = total
        self.seconds: list[float] = []

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def left(self, number: int) -> str:
        if len(self.seconds) < 3:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        return f", about {duration(mean * (self.total - number + 1))} left"
