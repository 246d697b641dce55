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
from lilliput.studies.record import open_record
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
        return _all_done(grid, out, record, jobs, workers)


def _all_done(grid: Grid, out: Path, record: dict[str, Any], jobs: list, workers: int) -> list[str]:
    make_shop = partial(Workshop, grid, out, record, energy_share=1 / workers)
    shop = make_shop()
    if workers > 1:
        torch.set_num_threads(max(1, cores() // workers))  # what a worker has, so that plans are measured alike
        for cell in {cell.backbone: cell for cell in reversed(grid.cells)}.values():
            with contextlib.suppress(Exception):  # its own cells will say so, and cost no others
                shop.plan(cell)
    events = processes.in_turn(jobs, shop) if workers == 1 else processes.side_by_side(jobs, make_shop, workers)
    failed, elsewhere, ended, begun, began = [], [], 0, set(), time.perf_counter()
    estimate = _Estimate(len(jobs), workers)
    for event in events:
        if isinstance(event, processes.Started):
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
