"""A study: a grid of techniques x backbones x seeds -> the cells still missing -> run and judge each -> report."""

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.grid import Grid, check
from lilliput.studies.jobs import Workshop, jobs_of
from lilliput.studies.record import open_record, went_on
from lilliput.system import signals
from lilliput.system.files import write_whole
from lilliput.system.machine import cores
from lilliput.system.plan import own_threads
from lilliput.system.progress import duration, say


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


def _run_all(grid: Grid, out: Path, record: dict[str, Any], jobs: list, workers: int) -> list[str]:
    make_shop = partial(Workshop, grid, out, record, share=1 / workers)
    shop = make_shop()
    if workers > 1:
        _measure_plans(grid, shop, workers)
        events = processes.side_by_side(jobs, make_shop, workers)
    else:
        events = processes.in_turn(jobs, shop)
    journal, noted = _Journal(out, len(jobs), workers), False
    for event in events:
        if isinstance(event, processes.Started):
            journal.started(event)
        else:
            journal.finished(event)
            if event.worked and not noted:
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


class _Journal:
    """What became of a study's jobs, said as it happens; errors are left in their cells' folders."""

    def __init__(self, out: Path, total: int, workers: int):
        self.out, self.total, self.workers = out, total, workers
        self.begun: set[str] = set()
        self.failed: list[str] = []
        self.elsewhere: list[str] = []
        self.ended, self.began = 0, time.perf_counter()
        self.seconds: list[float] = []  # of the jobs in which there was anything to do

    def started(self, event: processes.Started) -> None:
        self.begun.add(event.name)  # a second time after its worker died
        number = len(self.begun)
        say(f"[{number}/{self.total}] {event.name.replace('-', ' ')}{self._left(number)}")

    def finished(self, event: processes.Finished) -> None:
        self.ended += not event.stopped
        error_file = self.out / "cells" / event.name / "error.txt"
        if event.elsewhere:
            self.elsewhere.append(event.name)
            say(f"{event.name} is in work by another process")
        elif event.error is None:
            error_file.unlink(missing_ok=True)
        else:
            self.failed.append(event.name)
            error_file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(error_file, f"{event.error}\n{event.details}".encode("utf-8", "backslashreplace"))
            say(f"{event.name} failed: {event.error}")
        if event.worked:
            self.seconds.append(event.seconds)

    def close(self) -> None:
        """The sum of it; Stopped where a signal asked for that."""
        done = self.ended - len(self.failed) - len(self.elsewhere)
        say(f"{done} of {self.total} done in {duration(time.perf_counter() - self.began)}")
        if self.elsewhere:
            names = ", ".join(self.elsewhere)
            say(f"{names}: in work by another process on {self.out}; the report is whole when that has ended")
        signals.check(f"stopped with {done} of {self.total} done, and what was in work saved in {self.out}")

    def _left(self, number: int) -> str:
        """The time left, from the third job on."""
        if len(self.seconds) < 3:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        return f", about {duration(mean * (self.total - number + 1) / self.workers)} left"
