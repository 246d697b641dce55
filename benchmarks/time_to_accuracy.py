"""Accuracy against the seconds of training: Lilliput's small recipe, and lightly's documented one.

python -m benchmarks.time_to_accuracy --pool DIR --data DIR [--minutes 6] [--techniques simclr byol] [--backbones ...]

lightly (extra `bench`) trains for the given minutes; Lilliput for a `--share` of them, told beforehand, since its rate
falls to zero at the end. Each side is judged as it goes by the same judge: k nearest neighbours, by cosine, of the test
images of --data among its labelled ones. Only seconds of training count: neither the start of a side nor the judging.
Both see the same images, size and batch, and start from the same weights. A line of JSON for every figure, then a table
of when each first was as good as lightly at its best.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import throughput

CHECKS = 6  # times that lightly is judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", required=True, help="a folder of images")
    parser.add_argument("--data", required=True, help="a folder with train/<class>/ and test/<class>/")
    parser.add_argument("--techniques", nargs="+", default=["simclr", "byol"], choices=list(throughput.LIGHTLY))
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "shufflenet_v2"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--limit", type=int, default=3000, help="images of the pool, so that epochs are short")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--share", type=float, default=1 / 3, help="of lightly's minutes, for Lilliput")
    parser.add_argument("--side", choices=["ours", "lightly"], help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        for point in curve(a, a.techniques[0], a.backbones[0]):
            print(json.dumps(point), flush=True)
        return
    rows = []
    for technique in a.techniques:
        for backbone in a.backbones:
            curves = {side: list(_in_own_process(side, technique, backbone, a)) for side in ("lightly", "ours")}
            rows.append(row(technique, backbone, curves))
    print(f"\n{os.cpu_count()} cores, {a.size} px, batch {a.batch}; kNN accuracy on test")
    print("| technique | backbone | untrained | lightly's best | after s | ours, after s | ratio | ours ends |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    print("\n".join(rows))


def row(technique: str, backbone: str, curves: dict[str, list[dict]]) -> str:
    """A line of the table: the first second at which lightly is at its best, and ours as good as that."""
    start = curves["lightly"][0]["accuracy"]
    best = max(curves["lightly"][1:], key=lambda point: (point["accuracy"], -point["seconds"]))
    equal = next((point for point in curves["ours"][1:] if point["accuracy"] >= best["accuracy"]), None)
    last = curves["ours"][-1]
    found = [f"{equal['seconds']:.0f}", f"{equal['seconds'] / best['seconds']:.2f}"] if equal else ["not", "–"]
    end = f"{last['accuracy']:.3f} after {last['seconds']:.0f} s"
    shown = [f"{start:.3f}", f"{best['accuracy']:.3f}", f"{best['seconds']:.0f}", *found, end]
    return f"| {technique} | {backbone} | {' | '.join(shown)} |"


def _in_own_process(side: str, technique: str, backbone: str, a: argparse.Namespace) -> Iterator[dict]:
    command = [sys.executable, "-m", "benchmarks.time_to_accuracy", "--side", side, "--pool", a.pool, "--data", a.data]
    command += ["--techniques", technique, "--backbones", backbone, "--size", str(a.size), "--batch", str(a.batch)]
    command += ["--minutes", str(a.minutes), "--share", str(a.share), "--limit", str(a.limit)]
    with subprocess.Popen(command, env=throughput.environment(side), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("{"):
                print(line, end="", flush=True)
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{side} of {technique} {backbone} failed")


def curve(a: argparse.Namespace, technique: str, backbone: str) -> Iterator[dict[str, Any]]:
    """Points of one side: seconds of training, images seen, accuracy; the first is of the untrained network."""
    judge = Judge(a.data, a.size)
    sides = {"ours": ours, "lightly": lightly}
    for seconds, images, encoder in sides[a.side](a, technique, backbone):
        point = {"side": a.side, "technique": technique, "backbone": backbone, "seconds": round(seconds, 1)}
        yield {**point, "images": images, "accuracy": judge.accuracy(encoder)}


class Judge:
    """The labelled images, and the one way in which both sides are judged."""

    def __init__(self, data: str, size: int):
        from lilliput.datasets import open_data
        from lilliput.system.plan import choose

        self.data, self.plan = open_data(data, image_size=size, limit=2), choose("cpu", {"precision": "fp32"})

    def accuracy(self, encoder: Any) -> float:
        from lilliput.probes import LabelledExam
        from lilliput.probes.knn import knn

        assert self.data.train and self.data.test
        was_training = encoder.training
        exam = LabelledExam(encoder, self.data.train, self.data.test, plan=self.plan)
        found = dict(knn(exam))["accuracy_cosine"]
        encoder.train(was_training)
        return found


def ours(a: argparse.Namespace, technique: str, backbone: str) -> Iterator[tuple[float, int, Any]]:
    """As many epochs as fit in the share of the minutes, at the rate of a short trial."""
    import torch

    from lilliput.datasets import open_data
    from lilliput.optim.build import make_optimiser
    from lilliput.training.cell import make_cell, plan_for
    from lilliput.training.loop import train

    _, steps, _ = throughput.ours(technique, backbone, a.size, a.batch, a.pool, paper_views=False)
    rate = throughput.images_per_s(steps, drained=2)
    images = open_data(a.pool, image_size=a.size, limit=a.limit).pool
    epochs = max(1, round(rate * a.minutes * 60 * a.share / (len(images) // a.batch * a.batch)))
    cell = make_cell(technique, backbone, batch=a.batch, epochs=epochs)
    plan = plan_for(cell, a.size)
    plan.take_effect()
    built = plan.place(cell.build())
    yield 0.0, 0, built.encoder
    recipe = cell.recipe.suited(built.encoder)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    seconds, seen = 0.0, 0
    for epoch in train(built, images, recipe, make_optimiser(recipe, built), scaler, plan=plan, seed=0):
        seconds, seen = seconds + epoch.seconds, seen + epoch.images
        yield seconds, seen, built.encoder


def lightly(a: argparse.Namespace, technique: str, backbone: str) -> Iterator[tuple[float, int, Any]]:
    """Until the minutes are over, judged at even spaces of time."""
    _, steps, encoder = throughput.lightly(technique, backbone, a.size, a.batch, a.pool, limit=a.limit)
    yield 0.0, 0, encoder
    next(steps)  # the loader's workers start
    seconds, seen, due = 0.0, 0, 1
    while seconds < a.minutes * 60:
        began = time.perf_counter()
        seen += next(steps)
        seconds += time.perf_counter() - began
        if seconds >= due * a.minutes * 60 / CHECKS:
            due += 1
            yield seconds, seen, encoder


if __name__ == "__main__":
    main()
