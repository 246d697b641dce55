"""Images a second of pretraining, end to end: Lilliput, lightly's documented recipe, and the bare step as the ceiling.

python -m benchmarks.throughput --pool DIR [--sizes 96 32] [--backbones ...] [--techniques simclr moco_v2 byol]

Each figure is taken in a process of its own, the sides in turn, round by round, so that a change of the machine's speed
meets all of them. Lilliput runs by its measured plan, as the command starts it. lightly (extra `bench`) runs as its
examples do (benchmarks/peer.py), as it comes. Both see the same files, batch and networks; the ceiling is Lilliput's
own step on views that are ready.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.peer import Case, Running, lightly

if TYPE_CHECKING:
    from lilliput.data.store import Images
    from lilliput.training.loop import Epoch, Learner

SIDES = ("ours", "ceiling", "lightly")
SECONDS, STEPS = 8.0, 3  # at least so long, and so many steps, for a figure
DRAINED = 6  # batches that a data loader has ready before the clock starts


def main() -> None:
    from lilliput import catalog

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", required=True, help="a folder of images")
    parser.add_argument("--techniques", nargs="+", default=["simclr", "moco_v2", "byol"])
    parser.add_argument("--backbones", nargs="+", default=list(catalog.BACKBONES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[96, 32])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [
        Case(technique, backbone, size, options.batch, options.pool)
        for size in options.sizes
        for technique in options.techniques
        for backbone in options.backbones
    ]
    if options.side:
        print(json.dumps(measure(options.side, cases[0])))
        return
    sides = options.sides
    print(f"{os.cpu_count()} cores, batch {options.batch}, images/s: median of {options.rounds} (lowest-highest)")
    print(f"| px | technique | backbone | {' | '.join(sides)} | plan | ours / ceiling | ours / lightly |")
    print(f"| ---: | --- | --- |{' ---: |' * len(sides)} --- | ---: | ---: |")
    for case in cases:
        figures: dict[str, list[dict]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side in sides:
                figures[side].append(_in_own_process(side, case))
        print(row(case, figures), flush=True)


def row(case: Case, figures: dict[str, list[dict]]) -> str:
    """A line of the table: what `measure` gave of every side, round by round."""
    rates = {side: [figure["images_per_s"] for figure in rounds] for side, rounds in figures.items()}
    middle = {side: statistics.median(values) for side, values in rates.items()}
    spreads = [f"{middle[side]:.0f} ({min(values):.0f}-{max(values):.0f})" for side, values in rates.items()]
    plans = [figure["plan"] for side, rounds in figures.items() if side != "lightly" for figure in rounds]
    ratios = [
        f"{middle['ours'] / middle[side]:.2f}" if {"ours", side} <= set(middle) else "–"
        for side in ("ceiling", "lightly")
    ]
    cells = [str(case.size), case.technique, case.backbone, *spreads, " ".join(dict.fromkeys(plans)), *ratios]
    return f"| {' | '.join(cells)} |"


def _in_own_process(side: str, case: Case) -> dict:
    command = [sys.executable, "-m", "benchmarks.throughput", "--side", side, "--pool", case.pool]
    command += ["--techniques", case.technique, "--backbones", case.backbone]
    command += ["--sizes", str(case.size), "--batch", str(case.batch)]
    done = subprocess.run(command, env=environment(side), stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def environment(side: str) -> dict[str, str]:
    """Ours as the command sets it, lightly's as it comes."""
    from lilliput.cli import TUNABLES

    variables = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    return variables if side == "lightly" else {**variables, "GLIBC_TUNABLES": TUNABLES}


def run_as_the_command(module: str) -> None:
    """Begin `python -m` this module anew where memory is not set as the command sets it."""
    wanted = environment("ours")
    if os.environ.get("GLIBC_TUNABLES") != wanted["GLIBC_TUNABLES"]:
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], wanted)


def measure(side: str, case: Case) -> dict[str, Any]:
    """Images a second of one side, and the plan that it ran by."""
    plan, steps, _ = {"ours": ours, "ceiling": ceiling, "lightly": lightly}[side](case)
    return {"images_per_s": images_per_s(steps, drained=DRAINED if side == "lightly" else 2), "plan": plan}


def images_per_s(steps: Iterator[int], *, drained: int) -> float:
    """Of an endless run that yields how many images it has just learned from; its first steps do not count."""
    for _ in range(drained):
        next(steps)
    began, images, count = time.perf_counter(), 0, 0
    while count < STEPS or time.perf_counter() - began < SECONDS:
        images += next(steps)
        count += 1
    return images / (time.perf_counter() - began)


def learner_of(case: Case, images: "Images", *, epochs: int, options: dict[str, Any]) -> "Learner":
    """What a run has before its first step, by the small recipe and the plan that is measured for it."""
    from lilliput.system.resources import Resources
    from lilliput.training.cell import make_cell, plan_for
    from lilliput.training.loop import Learner

    cell = make_cell(case.technique, case.backbone, batch=case.batch, epochs=epochs, options=options)
    plan = plan_for(cell, images.image_size, Resources())
    plan.take_effect()
    technique = cell.build()
    return Learner(technique, cell.recipe.suited(technique.encoder), plan)


def epochs_of(learner: "Learner", images: "Images") -> Iterator["Epoch"]:
    """Train to the recipe's last epoch, as a run does; an Epoch after each."""
    from lilliput.training.loop import train

    batch = learner.recipe.batch
    batches = partial(images.batches, batch, learner.plan.device)
    return train(learner, batches, len(images) // batch, seed=0)


def prepared(case: Case) -> "tuple[Images, Learner]":
    """Few images of the pool, so that the ends of epochs count too, and who learns from them."""
    from lilliput.datasets import open_data

    images = open_data(case.pool, image_size=case.size, limit=4 * case.batch).pool
    return images, learner_of(case, images, epochs=1000, options=_views_of_the_paper(case.technique))


def _views_of_the_paper(technique: str) -> dict[str, float]:
    """The small recipes blur nothing; here both sides do the same work."""
    return {"blur": 1.0 if technique == "byol" else 0.5}


def brief(plan: Any) -> str:
    """A plan in the table: its precision, and what of it is unusual."""
    unusual = [] if plan.channels_last else ["contiguous"]
    return " ".join([plan.precision, *unusual, f"x{plan.threads}"])


def ours(case: Case) -> Running:
    images, learner = prepared(case)
    counts = (epoch.images for epoch in epochs_of(learner, images))
    return brief(learner.plan), counts, learner.technique.encoder


def ceiling(case: Case) -> Running:
    images, learner = prepared(case)
    technique, optimiser, plan = learner.technique, learner.optimiser, learner.plan
    views = technique.views(images.load(slice(0, case.batch), plan.device), plan.generator(0))

    def run():
        technique.train()
        while True:
            with plan.autocast():
                loss = technique(*views)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            technique.after_step(0.0)
            yield case.batch

    return brief(plan), run(), technique.encoder


if __name__ == "__main__":
    main()
