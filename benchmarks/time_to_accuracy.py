"""Accuracy against the seconds of training: Lilliput's small recipe, and the best that lightly documents.

python -m benchmarks.time_to_accuracy --pool DIR --data DIR [--minutes 6] [--techniques simclr byol] [--backbones ...]

lightly (extra `bench`, benchmarks/peer.py) trains for the given minutes by the recipe of its own benchmark; Lilliput
for a `--share` of them. Both are told their seconds beforehand by a trial, since their rates fall to zero at the end.
Each side is judged as it goes by benchmarks/folds.py: a linear probe and k nearest neighbours by cosine, on held-out
folds of the labelled training images of --data; its test images are not looked at. Only seconds of training count:
neither the start of a side nor the judging. Both see the same images at the same size and start from the same weights;
the batch is each recipe's own. A line of JSON for every figure, then a table of when each first was as good as lightly
at its best.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import peer, throughput
from benchmarks.folds import judged
from benchmarks.peer import Case

CHECKS = 6  # times that lightly is judged
Course = Iterator[tuple[float, int, Any]]
"""Of a side: seconds of training, images seen, and the encoder by then; the first is the untrained one."""


@dataclass(frozen=True)
class Budget:
    """How long each side trains, on how many images."""

    minutes: float  # lightly's
    share: float  # of lightly's minutes, for Lilliput
    limit: int  # images of the pool
    batch: int  # Lilliput's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", required=True, help="a folder of images")
    parser.add_argument("--data", required=True, help="a folder with train/<class>/ and test/<class>/")
    parser.add_argument("--techniques", nargs="+", default=["simclr", "byol"], choices=list(peer.BENCHMARK.built))
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "shufflenet_v2"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128, help="lightly's")
    parser.add_argument("--our-batch", type=int, default=32, help="Lilliput's")
    parser.add_argument("--limit", type=int, default=3000, help="images of the pool, so that epochs are short")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--share", type=float, default=1 / 3, help="of lightly's minutes, for Lilliput")
    parser.add_argument("--side", choices=["ours", "lightly"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    budget = Budget(options.minutes, options.share, options.limit, options.our_batch)
    cases = [
        Case(technique, backbone, options.size, options.batch, options.pool)
        for technique in options.techniques
        for backbone in options.backbones
    ]
    if options.side:
        for point in curve(options.side, cases[0], budget, options.data):
            print(json.dumps(point), flush=True)
        return
    rows = []
    for case in cases:
        curves = {side: list(_in_own_process(side, case, budget, options.data)) for side in ("lightly", "ours")}
        rows += [row(case, curves, judge) for judge in ("linear", "knn")]
    print(f"\n{os.cpu_count()} cores, {options.size} px, batch {options.batch} and {options.our_batch}; held-out folds")
    print("| technique | backbone | judge | untrained | lightly's best | after s | ours, after s | ratio | ours ends |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    print("\n".join(rows))


def row(case: Case, curves: dict[str, list[dict]], judge: str) -> str:
    """A line of the table: the first second at which lightly is at its best, and ours as good as that."""
    start = curves["lightly"][0][judge]
    best = max(curves["lightly"][1:], key=lambda point: (point[judge], -point["seconds"]))
    equal = next((point for point in curves["ours"][1:] if point[judge] >= best[judge]), None)
    last = curves["ours"][-1]
    reached = [f"{equal['seconds']:.0f}", f"{equal['seconds'] / best['seconds']:.2f}"] if equal else ["not", "–"]
    end = f"{last[judge]:.3f} after {last['seconds']:.0f} s"
    cells = [f"{start:.3f}", f"{best[judge]:.3f}", f"{best['seconds']:.0f}", *reached, end]
    return f"| {case.technique} | {case.backbone} | {judge} | {' | '.join(cells)} |"


def _in_own_process(side: str, case: Case, budget: Budget, data: str) -> Iterator[dict]:
    command = [sys.executable, "-m", "benchmarks.time_to_accuracy", "--side", side, "--pool", case.pool, "--data", data]
    command += ["--techniques", case.technique, "--backbones", case.backbone]
    command += ["--size", str(case.size), "--batch", str(case.batch), "--our-batch", str(budget.batch)]
    command += ["--minutes", str(budget.minutes), "--share", str(budget.share), "--limit", str(budget.limit)]
    with subprocess.Popen(command, env=throughput.environment(side), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                print(line, end="", flush=True)
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{side} of {case.technique} {case.backbone} failed")


def curve(side: str, case: Case, budget: Budget, data: str) -> Iterator[dict[str, Any]]:
    """Points of one side: seconds of training, images seen, accuracies; the first is of the untrained network."""
    from lilliput.datasets import open_data
    from lilliput.system.plan import choose

    labelled, _ = open_data(data, image_size=case.size, limit=2).judging
    plan = choose("cpu", {"precision": "fp32"})
    for seconds, images, encoder in {"ours": ours, "lightly": lightly}[side](case, budget):
        point = {"side": side, "technique": case.technique, "backbone": case.backbone, "seconds": round(seconds, 1)}
        yield {**point, "images": images, **judged(encoder, labelled, plan)}


def ours(case: Case, budget: Budget) -> Course:
    """As many epochs as fit in the share of the minutes, at the rate of a short trial."""
    from lilliput.datasets import open_data

    case = replace(case, batch=budget.batch)
    _, steps, _ = throughput.ours(case, paper_views=False)
    rate = throughput.images_per_s(steps, drained=2)
    images = open_data(case.pool, image_size=case.size, limit=budget.limit).pool
    images_an_epoch = len(images) // case.batch * case.batch
    epochs = max(1, round(rate * budget.minutes * 60 * budget.share / images_an_epoch))
    learner = throughput.learner_of(case, images, epochs=epochs)
    encoder = learner.technique.encoder
    yield 0.0, 0, encoder
    seconds, seen = 0.0, 0
    for epoch in throughput.epochs_of(learner, images):
        seconds, seen = seconds + epoch.seconds, seen + epoch.images
        yield seconds, seen, encoder


def lightly(case: Case, budget: Budget) -> Course:
    """As many steps as fit in the minutes, judged at even spaces."""
    _, trial, _ = peer.lightly(case, peer.BENCHMARK, limit=budget.limit)
    rate = throughput.images_per_s(trial, drained=throughput.DRAINED)
    trial.close()  # its loader's workers end
    part = max(1, round(rate * budget.minutes * 60 / case.batch / CHECKS))
    _, steps, encoder = peer.lightly(case, peer.BENCHMARK, steps=1 + CHECKS * part, limit=budget.limit)
    yield 0.0, 0, encoder
    next(steps)  # the loader's workers start
    seconds, seen = 0.0, 0
    for _ in range(CHECKS):
        began = time.perf_counter()
        seen += sum(next(steps) for _ in range(part))
        seconds += time.perf_counter() - began
        yield seconds, seen, encoder


if __name__ == "__main__":
    main()
