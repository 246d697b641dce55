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
from lilliput.studies.engines import processes
from lilliput.studies.grid import Grid, check
from lilliput.studies.jobs import Job, Workshop, jobs_of
from lilliput.studies.journal import Journal
from lilliput.studies.judge import told_apart
from lilliput.studies.record import judges, open_record, went_on
from lilliput.system.machine import cores
from lilliput.system.plan import own_threads
from lilliput.system.progress import say
from lilliput.system.records import read_json


def study(grid: Grid, out: Path, *, workers: int = 1, further: Sequence[Data] = ()) -> list[str]:
    """Run what is missing in `out`, judge it, write results.csv as it goes; returns the names of cells that failed.

    `workers`: so many cells at once, each in a process of its own. `further`: other labelled images that judge what was
    made after that; their rows stand under their own names. Raises BadSetting if `out` holds another study. A cell that
    fails leaves its error in its folder; the others go on.
    """
    further_grids = [replace(grid, labelled=labelled) for labelled in further]
    for each in (grid, *further_grids):
        check(each)
    record = open_record(grid, out)
    results.mend(out)
    jobs = list(jobs_of(grid))
    workers = min(workers, len(jobs))
    threads = max([plan.get("threads") or 1 for plan in record["plans"].values()], default=1)
    if workers > (most := max(1, cores() // threads)):
        say(f"{out} was begun with {threads} threads a cell, so {most} at once")
        workers = most
    with own_threads():
        failed = _run_all(grid, out, record, jobs, workers)
        for each in further_grids:
            failed += _judge_too(each, out, workers, without=failed)
    return failed


def _judge_too(grid: Grid, out: Path, workers: int, *, without: list[str]) -> list[str]:
    """Judge by the grid's labelled images what a study has made for others, `without` what failed in it."""
    train, test = grid.labelled.judging
    name = told_apart(out, grid.labelled.name, [train.digest, test.digest])
    record = {**read_json(out / "study.json"), **judges(name, train, test)}
    return _run_all(grid, out, record, [job for job in jobs_of(grid) if job.name not in without], workers)


def _run_all(grid: Grid, out: Path, record: dict[str, Any], jobs: list[Job], workers: int) -> list[str]:
    make_shop = partial(Workshop, grid, out, record, share=1 / workers)
    shop = make_shop()
    if workers > 1:
        _measure_plans(grid, shop, workers)
    journal, todo = Journal(out, grid, jobs, workers), [(job.name, job.work) for job in jobs]
    if workers > 1:
        events = processes.side_by_side(todo, make_shop, workers, journal.board)
    else:
        events = processes.in_turn(todo, shop, journal.board)
    noted = False
    for event in events:
        journal.note(event)
        if isinstance(event, processes.Finished) and event.worked and not noted:
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
