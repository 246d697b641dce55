"""A study: a grid of techniques x backbones x seeds -> the cells still missing -> run and judge each -> report."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lilliput.data.store import Data
from lilliput.studies import results
from lilliput.studies.engines import Engine, Finished, Processes, Started
from lilliput.studies.grid import Grid, check
from lilliput.studies.jobs import Job, Workshop, jobs_of
from lilliput.studies.journal import Journal
from lilliput.studies.judge import told_apart
from lilliput.studies.record import judges, open_record, went_on
from lilliput.system.machine import cores
from lilliput.system.plan import own_threads
from lilliput.system.progress import say
from lilliput.system.records import read_json


def study(grid: Grid, out: Path, *, engine: Engine, further: Sequence[Data] = ()) -> list[str]:
    """Run what is missing in `out`, judge it, write results.csv as it goes; returns the names of cells that failed.

    `engine`: where the cells run, opened already. `further`: other labelled images that judge what was
    made after that; their rows stand under their own names. Raises BadSetting if `out` holds another study. A cell that
    fails leaves its error in its folder; the others go on.
    """
    further_grids = [replace(grid, labelled=labelled) for labelled in further]
    for each in (grid, *further_grids):
        check(each)
    record = open_record(grid, out)
    results.mend(out)
    jobs = list(jobs_of(grid))
    engine = _fitting(engine, out, record, len(jobs))
    with own_threads():
        failed = _run_all(grid, out, record, jobs, engine)
        for each in further_grids:
            failed += _judge_too(each, out, engine, without=failed)
    return failed


def _fitting(engine: Engine, out: Path, record: dict[str, Any], jobs: int) -> Engine:
    """On this machine no more workers than there are jobs, nor than have the threads that the study was begun with."""
    if not engine.is_here:
        return engine
    workers = min(engine.workers, jobs)
    threads = max([plan.get("threads") or 1 for plan in record["plans"].values()], default=1)
    if workers > (most := max(1, cores() // threads)):
        say(f"{out} was begun with {threads} threads a cell, so {most} at once")
        workers = most
    return Processes(workers)


def _judge_too(grid: Grid, out: Path, engine: Engine, *, without: list[str]) -> list[str]:
    """Judge by the grid's labelled images what a study has made for others, `without` what failed in it."""
    train, test = grid.labelled.judging
    name = told_apart(out, grid.labelled.name, [train.digest, test.digest])
    record = {**read_json(out / "study.json"), **judges(name, train, test)}
    return _run_all(grid, out, record, [job for job in jobs_of(grid) if job.name not in without], engine)


def _run_all(grid: Grid, out: Path, record: dict[str, Any], jobs: list[Job], engine: Engine) -> list[str]:
    share = 1 / engine.workers if engine.is_here else None
    make_shop = partial(Workshop, grid, out if engine.is_here else out.absolute(), record, share=share)
    if engine.is_here and engine.workers > 1:
        _measure_plans(grid, make_shop(), engine.workers)
    journal, todo = Journal(out, grid, jobs, engine.workers), jobs
    if not engine.is_here:  # a place in a queue is dearer than a look
        closed = make_shop(is_closed=True)
        idle = [job.name for job in jobs if job.is_done(closed)]
        todo = [job for job in jobs if job.name not in idle]
        for name in idle:
            journal.note(Started(name))
            journal.note(Finished(name, False, 0.0))
    noted = False
    for event in engine.run([(job.name, job.alone) for job in todo], make_shop, journal.board, out):
        journal.note(event)
        if isinstance(event, Finished) and event.worked and not noted:
            went_on(grid, out)
            noted = True
    journal.close()
    return journal.failed


def _measure_plans(grid: Grid, shop: Workshop, workers: int) -> None:
    """Before the workers begin, with the threads that each of them will have."""
    torch.set_num_threads(max(1, cores() // workers))
    for cell in {cell.backbone: cell for cell in reversed(grid.cells)}.values():
        with contextlib.suppress(Exception):  # its own cells will say so, and cost no others
            shop.plan(cell)
