"""A small grid by every engine with one and with two workers: wall-clock, efficiency, and what an engine costs a cell.

python -m benchmarks.scaling [--engines processes ray slurm] [--cells 4] [--epochs 4] [--out results/scaling]

One thread a worker. Efficiency is the time of one worker over twice that of two; both count from the call to the last
row, with the start of the engine and the imports of its workers. The cost of a cell is that of jobs which do nothing:
the time to the end of the first, and of each of those that follow. Slurm's place is taken by submitit's processes on
this machine, a new one for each cell, without a queue to wait in. The load of the machine stands beside.
"""

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.faults import PLAN, few_images
from lilliput import api
from lilliput.data.store import Data
from lilliput.errors import wanted
from lilliput.studies.engines import Engine, Finished, Needs, Processes, Ray, Slurm
from lilliput.system.machine import commit, cores, processor
from lilliput.system.progress import Board

ENGINES = ("processes", "ray", "slurm")
EMPTY = 8  # jobs that do nothing
COLUMNS = (
    "engine",
    "workers",
    "cells",
    "seconds",
    "efficiency",
    "first_seconds",
    "cell_seconds",
    "load_before",
    "load",
)
RAY = {"include_dashboard": False, "object_store_memory": 80 * 2**20, "log_to_driver": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("results/scaling"))
    options = parser.parse_args()
    data = few_images()
    rows: list[dict[str, Any]] = []
    print(f"{options.cells} cells of {options.epochs} epochs, {processor()}, {cores()} cores, {commit()}\n")
    print(f"| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}")
    for name in options.engines:
        rows += measured(name, data, options.cells, options.epochs)
        for row in rows[-2:]:
            print("| " + " | ".join(str(row[column]) for column in COLUMNS) + " |", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    conditions = {"epochs": options.epochs, "processor": processor(), "cores": cores(), "commit": commit()}
    with open(options.out / "scaling.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *conditions])
        writer.writeheader()
        writer.writerows({**row, **conditions} for row in rows)


def measured(name: str, data: Data, cells: int, epochs: int) -> Iterator[dict[str, Any]]:
    """A row for one worker, and one for two."""
    alone = 0.0
    for workers in (1, 2):
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder, opened(name, workers) as engine:
            first, each = empty(engine, Path(folder))
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            with opened(name, workers) as engine:
                # submitit's processes of this machine all begin at once: no more are given than there are workers
                for count in range(workers, cells + 1, workers) if name == "slurm" else [cells]:
                    grid(engine, data, Path(folder) / "study", count, epochs)
            seconds = time.perf_counter() - began
        alone = alone or seconds
        figures = (seconds, alone / seconds / workers, first, each, before, os.getloadavg()[0])
        yield dict(zip(COLUMNS, (name, workers, cells, *(round(figure, 2) for figure in figures)), strict=True))


@contextmanager
def opened(name: str, workers: int) -> Iterator[Engine]:
    """The engine with so many workers of one thread each."""
    if name == "ray":
        ray = wanted("ray", extra="ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=workers, **RAY)
        try:
            with Ray(None, Needs()).opened() as engine:
                yield engine
        finally:
            ray.shutdown()
    else:
        yield Processes(workers) if name == "processes" else Slurm({"cluster": "local", "time": 60})


def grid(engine: Engine, data: Data, out: Path, cells: int, epochs: int) -> None:
    """As many seeds of one small cell, judged by kNN."""
    settings: Mapping[str, Any] = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"], "probes": ["knn"]}
    shape = {"epochs": epochs, "every": epochs, "batch": 16, "plan": PLAN, "device": "cpu", "baselines": []}
    api.study(data, out, seeds=range(cells), on=engine, **settings, **shape)


def empty(engine: Engine, folder: Path) -> tuple[float, float]:
    """Seconds until the first of some jobs that do nothing has ended, and of each that follows."""
    jobs = [(str(number), bool) for number in range(EMPTY)]  # of an empty workshop: False, nothing to do
    began, ends = time.perf_counter(), []
    for event in engine.run(jobs, dict, Board(), folder):
        if isinstance(event, Finished):
            ends.append(time.perf_counter())
    return ends[0] - began, (ends[-1] - ends[0]) / (len(ends) - 1)


if __name__ == "__main__":
    main()
