"""A study: a grid of techniques x backbones x seeds -> the cells still missing -> run and judge each -> report."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.grid import Grid, check
from lilliput.studies.jobs import Job, Workshop, jobs_of
from lilliput.studies.journal import Journal
from lilliput.studies.record import open_record, went_on
from lilliput.system.machine import cores
from lilliput.system.plan import own_threads
from lilliput.system.progress import say


def study(grid: Grid, out: Path, *, workers: int = 1) -> list[str]:
    """Run what is missing in `out`, judge it, write results.csv as it goes; returns the names of cells that failed.

    `workers`: so many cells at once, each in a process of its own. Raises BadSetting if `out` holds another study. A
    cell that fails leaves its error in its folder; the others go on.
    """
    check(grid)
    record = open_record(grid, out)
    results.mend(out)
    jobs = list(jobs_of(grid))
    workers = min(workers, len(jobs))
    threads = max([plan.get("threads") or 1 for plan in record["plans"].values()], default=1)
    if workers > (most := max(1, cores() // threads)):
        say(f"{out} was begun with {threads} threads a cell, so {most} at once")
        workers = most
    with own_threads():
        return _run_all(grid, out, record, jobs, workers)


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
