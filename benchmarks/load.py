"""A study of 200 small cells, half of them killed at a random moment: its rows beside those of an undisturbed one.

python -m benchmarks.load [--cells 200] [--techniques ...] [--seed 0]

The techniques on one backbone, as many seeds as it takes. The study's process dies by SIGKILL while it works on one of
the cells that were drawn, is started again by the same call, and so on to its end. Every process is a fork of this one.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults import PLAN, few_images, fork, measured_rows
from lilliput import api, catalog
from lilliput.data.store import Data
from lilliput.studies import jobs
from lilliput.training.cell import Cell

BACKBONE = "shufflenet_v2"


@dataclass(frozen=True)
class Work:
    """A study of cells of one epoch."""

    data: Data
    techniques: list[str]
    seeds: list[int]

    @property
    def cells(self) -> list[str]:
        return [f"{technique}-{BACKBONE}-{seed}" for technique in self.techniques for seed in self.seeds]

    def __call__(self, out: Path) -> None:
        api.study(
            self.data,
            out,
            techniques=self.techniques,
            backbones=[BACKBONE],
            seeds=self.seeds,
            epochs=1,
            every=1,
            batch=32,
            width=0.5,
            plan=PLAN,
            device="cpu",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--techniques", nargs="+", default=list(catalog.TECHNIQUES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    work = Work(few_images(), options.techniques, list(range(options.cells // len(options.techniques))))
    doomed = rng.sample(work.cells, len(work.cells) // 2)
    with tempfile.TemporaryDirectory() as folder:
        whole, disturbed = Path(folder) / "whole", Path(folder) / "disturbed"
        began = time.perf_counter()
        os.waitpid(fork(partial(work, whole)), 0)
        seconds = time.perf_counter() - began
        print(f"{len(work.cells)} cells undisturbed: {seconds:.0f} s", flush=True)
        began = time.perf_counter()
        kills, status = killed_again_and_again(work, disturbed, doomed, seconds / len(work.cells), rng)
        print(f"killed {kills} times: {time.perf_counter() - began:.0f} s, ended with status {status}")
        undisturbed, restarted = measured_rows(whole), measured_rows(disturbed)
        differing = len(set(undisturbed) ^ set(restarted))
        print(f"{len(undisturbed)} rows and {len(restarted)} rows, {differing} of them not in both")
    sys.exit(0 if undisturbed and undisturbed == restarted else 1)


def killed_again_and_again(
    work: Work, out: Path, doomed: list[str], cell_seconds: float, rng: random.Random
) -> tuple[int, int]:
    """Kill the study once in each of the doomed cells, then let it end; how often it died, and its status."""
    kills = 0
    while True:
        left = [name for name in doomed if not (out / "cells" / name / ".doom").exists()]
        moments = {name: rng.uniform(0, cell_seconds) for name in left}
        status = os.waitpid(fork(partial(dying, work, moments, out)), 0)[1]
        if not os.WIFSIGNALED(status):
            return kills, status
        kills += 1
        if kills % 20 == 0:
            print(f"killed {kills} times", flush=True)


def dying(work: Work, doomed: dict[str, float], out: Path) -> None:
    """Work, killed so many seconds into the first of the doomed cells; each kills once, if it is not quicker."""
    jobs.pretrain = deadly(jobs.pretrain, doomed)
    work(out)


def deadly(pretrain: Callable[..., Path], doomed: dict[str, float]) -> Callable[..., Path]:
    """`pretrain`, of which a doomed cell's first call starts the clock."""

    def started(cell: Cell, data: Data, folder: Path, **named: Any) -> Path:
        if cell.name in doomed:
            (folder / ".doom").touch()
            threading.Timer(doomed[cell.name], os.kill, [os.getpid(), signal.SIGKILL]).start()
        return pretrain(cell, data, folder, **named)

    return started


if __name__ == "__main__":
    main()
