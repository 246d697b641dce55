"""One run by one process with two threads, and by two processes with a thread each: images/s, and what exchanges cost.

python -m benchmarks.together [--techniques simclr byol] [--backbone shufflenet_v2] [--size 64] [--batch 64] [--out DIR]

The same images, batch and steps; torchrun starts the two. images/s are those of the last epoch in log.jsonl. On two
cores nothing can be won by this: two processes show what synchronised batch norm, gathered features and averaged
gradients cost beside threads, which need none of it.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lilliput.system.machine import commit, cores, processor

COLUMNS = ("technique", "backbone", "processes", "threads", "images_per_s", "share", "load")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--techniques", nargs="+", default=["simclr", "moco_v2", "byol"])
    parser.add_argument("--backbone", default="shufflenet_v2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--out", type=Path, default=Path("results/scaling"))
    options = parser.parse_args()
    rows = []
    print(f"{processor()}, {cores()} cores, {commit()}\n\n| {' | '.join(COLUMNS)} |\n| --- | --- |{' ---: |' * 5}")
    for technique in options.techniques:
        alone = 0.0
        for processes in (1, 2):
            speed = images_per_s(technique, processes, options)
            alone = alone or speed
            row = (technique, options.backbone, processes, 2 // processes, speed, speed / alone, os.getloadavg()[0])
            rows.append([*row[:4], *(round(value, 2) for value in row[4:])])
            print("| " + " | ".join(map(str, rows[-1])) + " |", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "together.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def images_per_s(technique: str, processes: int, options: argparse.Namespace) -> float:
    """Of the second epoch of a short run."""
    with tempfile.TemporaryDirectory() as folder:
        run, threads = Path(folder) / "run", 2 // processes
        words = ["pretrain", technique, options.backbone, "--data", "scenes", "--image-size", str(options.size)]
        words += ["--limit", str(options.images), "--epochs", "2", "--batch", str(options.batch), "--every", "2"]
        words += ["--device", "cpu", "--plan", "precision=fp32", f"threads={threads}", "channels_last=true"]
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, *launch, "-m", "lilliput", *words, "--out", str(run)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["images_per_s"]


if __name__ == "__main__":
    main()
