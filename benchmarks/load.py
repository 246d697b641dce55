"""A study of 200 small cells, half of them killed at a random moment: its rows beside those of an undisturbed one.

python -m benchmarks.load [--cells 200] [--seed 0]

Five techniques on one backbone, as many seeds as it takes. The study's process dies by SIGKILL while it works on one of
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
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults import PLAN, few_images, fork
from lilliput import api, catalog
from lilliput.data.store import Data
from lilliput.studies import jobs, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    rng = random.Random(a.seed)
    seeds = list(range(a.cells // len(catalog.TECHNIQUES)))
    data = few_images()
    names = [f"{technique}-shufflenet_v2-{seed}" for technique in catalog.TECHNIQUES for seed in seeds]
    doomed = rng.sample(names, len(names) // 2)
    with tempfile.TemporaryDirectory() as folder:
        whole, disturbed = Path(folder) / "whole", Path(folder) / "disturbed"
        began = time.perf_counter()
        os.waitpid(fork(partial(work, data, seeds, whole)), 0)
        seconds = time.perf_counter() - began
        print(f"{len(names)} cells undisturbed: {seconds:.0f} s", flush=True)
        began, kills, a_cell = time.perf_counter(), 0, seconds / len(names)
        while True:
            left = [name for name in doomed if not (disturbed / "cells" / name / ".doom").exists()]
            moments = {name: rng.uniform(0, a_cell) for name in left}
            status = os.waitpid(fork(partial(dying_work, moments, data, seeds, disturbed)), 0)[1]
            if not os.WIFSIGNALED(status):
                break
            kills += 1
            if kills % 20 == 0:
                print(f"killed {kills} times", flush=True)
        print(f"killed {kills} times: {time.perf_counter() - began:.0f} s, ended with status {status}")
        undisturbed, restarted = (rows_of(out) for out in (whole, disturbed))
        differing = len(set(undisturbed) ^ set(restarted))
        print(f"{len(undisturbed)} rows and {len(restarted)} rows, {differing} of them not in both")
    sys.exit(0 if undisturbed and undisturbed == restarted else 1)


def work(data: Data, seeds: list[int], out: Path) -> None:
    api.study(
        data,
        out,
        techniques=catalog.TECHNIQUES,
        backbones=["shufflenet_v2"],
        seeds=seeds,
        epochs=1,
        every=1,
        batch=32,
        width=0.5,
        plan=PLAN,
        device="cpu",
    )


def dying_work(doomed: dict[str, float], data: Data, seeds: list[int], out: Path) -> None:
    """As `work`, killed so many seconds into the first of the doomed cells; each kills once, if it is not quicker."""
    real = jobs._pretrained

    def deadly(cell: Any, shop: Any) -> bool:
        if cell.name in doomed:
            (shop.out / "cells" / cell.name / ".doom").touch()
            threading.Timer(doomed[cell.name], os.kill, [os.getpid(), signal.SIGKILL]).start()
        return real(cell, shop)

    jobs._pretrained = deadly
    work(data, seeds, out)


def rows_of(out: Path) -> list[tuple[str, ...]]:
    rows = results.read(out)[[*results.KEY, "value", "flagged"]].astype(str)
    return sorted(map(tuple, rows.to_numpy().tolist()))


if __name__ == "__main__":
    main()
