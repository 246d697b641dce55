"""What becomes of a study's jobs, said as it happens: a table that fills on a terminal, plain lines elsewhere."""

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lilliput.studies import results
from lilliput.studies.engines import Event, Started
from lilliput.studies.grid import Grid
from lilliput.studies.jobs import Job
from lilliput.system import signals
from lilliput.system.files import remove, write_whole
from lilliput.system.progress import Board, duration, say
from lilliput.system.visible import visible

KNOWN_FROM = 3  # jobs that were done, before the time left is told
SHRUNK = 0.1  # of a job: how far a factor that was seen once is trusted less than one that was seen often

Kind = tuple[str, str]  # technique or baseline, backbone: what a job's seconds depend on


class Journal:
    """Of one call; errors are left in their cells' folders.

    The board draws `table` from a thread of its own: what changes meanwhile is copied before it is gone through.
    """

    def __init__(self, out: Path, grid: Grid, jobs: Sequence[Job], workers: int):
        self.out, self.grid, self.workers = out, grid, workers
        self.jobs = {job.name: job for job in jobs}
        self.queued = dict(self.jobs)
        self.running: dict[str, float] = {}  # name -> when it began
        self.took: dict[Kind, list[float]] = {}  # seconds of the jobs in which there was anything to do
        self.failed: list[str] = []
        self.elsewhere: list[str] = []
        self.ended, self.began = 0, time.perf_counter()
        self.values: dict[Kind, float] = {}
        self.board = Board(self.table)

    def note(self, event: Event) -> None:
        if isinstance(event, Started):
            self.queued.pop(event.name, None)  # a second time after its worker died
            self.running[event.name] = time.perf_counter()
            if self.board.is_live and not self.values:
                self._read()  # what was there already
            elif not self.board.is_live:
                number = len(self.jobs) - len(self.queued)
                say(f"[{number}/{len(self.jobs)}] {event.name.replace('-', ' ')}{self._told_left()}")
            return
        self.running.pop(event.name, None)
        self.ended += not event.stopped
        error_file = self.out / "cells" / event.name / "error.txt"
        if event.elsewhere:
            self.elsewhere.append(event.name)
            say(f"{event.name} is in work by another process")
        elif event.error is None:
            if error_file.exists():
                remove(error_file)
        else:
            self.failed.append(event.name)
            error_file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(error_file, f"{event.error}\n{event.details}".encode("utf-8", "backslashreplace"))
            say(f"{event.name} failed: {event.error}")
        if event.worked:
            self.took.setdefault(self.jobs[event.name].kind, []).append(event.seconds)
            if self.board.is_live:
                self._read()

    def close(self) -> None:
        """The sum of it; Stopped where a signal asked for that."""
        self.board.close()
        done, total = self.ended - len(self.failed) - len(self.elsewhere), len(self.jobs)
        say(f"{done} of {total} done in {duration(time.perf_counter() - self.began)}")
        if self.elsewhere:
            names = ", ".join(self.elsewhere)
            say(f"{names}: in work by another process on {self.out}; the report is whole when that has ended")
        signals.check(f"stopped with {done} of {total} done, and what was in work saved in {self.out}")

    def table(self) -> Table:
        """Techniques and baselines by backbones: the last checkpoint's figure, what is running, what waits."""
        probe = next(iter(self.grid.probes))
        head = f"{probe}, last checkpoint: {self.ended} of {len(self.jobs)} done{self._told_left()}"
        table = Table(title=Text(head), title_justify="left")
        backbones = list(dict.fromkeys(job.backbone for job in self.jobs.values() if job.backbone))
        for name in ("", *backbones):
            table.add_column(Text(visible(name)), justify="right" if name else "left", overflow="fold")
        for row in dict.fromkeys(job.technique for job in self.jobs.values()):
            table.add_row(Text(visible(row)), *(self._state(row, backbone) for backbone in backbones))
        return table

    def _state(self, technique: str, backbone: str) -> str:
        value = self.values.get((technique, backbone), self.values.get((technique, "")))
        own = [name for name, job in self.jobs.items() if job.kind == (technique, backbone)]
        if any(name in self.running for name in own):
            return "running"
        if any(name in self.failed for name in own):
            return "failed"
        return f"{value:.3f}" if value is not None else "" if all(name in self.queued for name in own) else "-"

    def _read(self) -> None:
        """The figures that are there: of each kind of job the mean over its seeds, at the last checkpoint."""
        rows = results.read(self.out)
        rows = rows[rows["probe"] == next(iter(self.grid.probes))]
        rows = rows.drop_duplicates([*results.CELL, "epoch"])  # a probe's first figure is the one it is known by
        last = rows.sort_values("epoch").drop_duplicates(results.CELL, keep="last")
        self.values = last.groupby(["technique", "backbone"])["value"].mean().to_dict()

    def _told_left(self) -> str:
        if sum(map(len, list(self.took.values()))) < KNOWN_FROM:
            return ""
        return f", about {duration(self.left())} left, then the report"

    def left(self) -> float:
        """Seconds until the last job ends, by what jobs of its technique and of its backbone took."""
        expected, now = pace(self.took), time.perf_counter()
        running = [(expected(self.jobs[name].kind), now - began) for name, began in list(self.running.items())]
        ends = [max(seconds - age, 0.0) for seconds, age in running]
        return until_all_end(ends, [expected(job.kind) for job in list(self.queued.values())], self.workers)


def pace(took: Mapping[Kind, Sequence[float]]) -> Callable[[Kind], float]:
    """The seconds of a job of some kind: a factor of its technique times one of its backbone, fitted to those that were
    seen; of what was not seen yet, the mean of the others."""
    seen = [(kind, math.log(max(seconds, 1e-3))) for kind, all_of_it in list(took.items()) for seconds in all_of_it]
    mean = sum(seconds for _, seconds in seen) / len(seen)
    factors: list[dict[str, float]] = [{}, {}]
    for _ in range(20):  # by turns, each to what the other leaves
        for mine, others in ((0, 1), (1, 0)):
            rests: dict[str, list[float]] = {}
            for kind, seconds in seen:
                rests.setdefault(kind[mine], []).append(seconds - mean - factors[others].get(kind[others], 0.0))
            factors[mine] = {name: sum(rest) / (len(rest) + SHRUNK) for name, rest in rests.items()}
    return lambda kind: math.exp(mean + sum(of.get(name, 0.0) for of, name in zip(factors, kind, strict=True)))


def until_all_end(running: Sequence[float], queued: Sequence[float], workers: int) -> float:
    """Seconds until all are done, if who is free takes the next of those queued."""
    free = [0.0] * max(0, workers - len(running)) + list(running)
    heapq.heapify(free)
    for seconds in queued:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
