"""Images a second of pretraining, end to end: Lilliput, lightly's documented recipe, and the bare step as the ceiling.

python -m benchmarks.throughput --pool DIR [--sizes 96 32] [--backbones ...] [--techniques simclr moco_v2 byol]

Each figure is taken in a process of its own, the sides in turn, round by round, so that a change of the machine's speed
meets all of them. Lilliput runs by its measured plan, as the command starts it. lightly (extra `bench`) runs as in
https://docs.lightly.ai/examples: its transforms, heads, losses and SGD, a data loader with a worker per core. Both see
the same files, batch and networks; the ceiling is Lilliput's own step on views that are ready.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure(a.one, a.techniques[0], a.backbones[0], a.sizes[0], a.batch, a.pool)))
        return
    print(f"{os.cpu_count()} cores, batch {a.batch}, images/s: median of {a.rounds} (lowest-highest)")
    print(f"| px | technique | backbone | {' | '.join(a.sides)} | plan | ours / ceiling | ours / lightly |")
    print(f"| ---: | --- | --- |{' ---: |' * len(a.sides)} --- | ---: | ---: |")
    for size in a.sizes:
        for technique in a.techniques:
            for backbone in a.backbones:
                print(row(a, technique, backbone, size), flush=True)


def row(a: argparse.Namespace, technique: str, backbone: str, size: int) -> str:
    """A line of the table: all sides, round by round."""
    found: dict[str, list[dict]] = {side: [] for side in a.sides}
    for _ in range(a.rounds):
        for side in a.sides:
            found[side].append(_in_own_process(side, technique, backbone, size, a))
    rates = {side: [one["images_per_s"] for one in ones] for side, ones in found.items()}
    middle = {side: statistics.median(values) for side, values in rates.items()}
    shown = [f"{middle[side]:.0f} ({min(rates[side]):.0f}-{max(rates[side]):.0f})" for side in a.sides]
    plan = " ".join(dict.fromkeys(one["plan"] for side in a.sides if side != "lightly" for one in found[side]))
    ratios = [
        f"{middle['ours'] / middle[side]:.2f}" if {"ours", side} <= set(middle) else "–"
        for side in ("ceiling", "lightly")
    ]
    return f"| {size} | {technique} | {backbone} | {' | '.join(shown)} | {plan} | {' | '.join(ratios)} |"


def _in_own_process(side: str, technique: str, backbone: str, size: int, a: argparse.Namespace) -> dict:
    command = [
        sys.executable,
        "-m",
        "benchmarks.throughput",
        "--one",
        side,
        "--pool",
        a.pool,
        "--techniques",
        technique,
    ]
    command += ["--backbones", backbone, "--sizes", str(size), "--batch", str(a.batch)]
    done = subprocess.run(command, env=environment(side), stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def environment(side: str) -> dict[str, str]:
    """Ours as the command sets it, lightly's as it comes."""
    from lilliput.cli import TUNABLES

    found = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    return found if side == "lightly" else {**found, "GLIBC_TUNABLES": TUNABLES}


def measure(side: str, technique: str, backbone: str, size: int, batch: int, pool: str) -> dict[str, Any]:
    """Images a second of one side, and the plan that it ran by."""
    sides = {"ours": ours, "ceiling": ceiling, "lightly": lightly}
    plan, steps, _ = sides[side](technique, backbone, size, batch, pool)
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


def prepared(technique: str, backbone: str, size: int, batch: int, pool: str, *, paper_views: bool = True):
    """What a run has before its first step: images, plan, technique and optimiser, by the small recipe."""
    from lilliput.datasets import open_data
    from lilliput.optim.build import make_optimiser
    from lilliput.training.cell import make_cell, plan_for

    cell = make_cell(
        technique, backbone, batch=batch, epochs=1000, options=_views_of_the_paper(technique) if paper_views else {}
    )
    images = open_data(pool, image_size=size, limit=4 * batch).pool  # short epochs, so that their ends count too
    plan = plan_for(cell, size)
    plan.take_effect()
    built = plan.place(cell.build())
    recipe = cell.recipe.suited(built.encoder)
    return images, plan, built, recipe, make_optimiser(recipe, built)


def _views_of_the_paper(technique: str) -> dict[str, float]:
    """The small recipes blur nothing; here both sides do the same work."""
    return {"blur": 1.0 if technique == "byol" else 0.5}


def shown(plan: Any) -> str:
    """A plan in the table: its precision, and what of it is unusual."""
    unusual = [] if plan.channels_last else ["contiguous"]
    return " ".join([plan.precision, *unusual, f"x{plan.threads}"])


def ours(*what, **named) -> tuple[str, Iterator[int], Any]:
    import torch

    from lilliput.training.loop import train

    images, plan, technique, recipe, optimiser = prepared(*what, **named)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    epochs = train(technique, images, recipe, optimiser, scaler, plan=plan, seed=0)
    return shown(plan), (epoch.images for epoch in epochs), technique.encoder


def ceiling(*what) -> tuple[str, Iterator[int], Any]:
    images, plan, technique, recipe, optimiser = prepared(*what)
    views = technique.views(images.load(slice(0, recipe.batch), plan.device), plan.generator(0))

    def run():
        technique.train()
        while True:
            with plan.autocast():
                loss = technique(*views)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            technique.after_step(0.0)
            yield recipe.batch

    return shown(plan), run(), technique.encoder


def lightly(
    technique: str, backbone: str, size: int, batch: int, pool: str, *, limit: int | None = None
) -> tuple[str, Iterator[int], Any]:
    import torch
    from lightly.data import LightlyDataset

    from lilliput.backbones._surgery import silence_dropout
    from lilliput.catalog import backbone_builder
    from lilliput.data.store import spaced
    from lilliput.system.seeds import seeded

    with seeded(0):
        network = backbone_builder(backbone)()  # the same network, with the same pooling, as plain torch layers
    for layer in network.modules():
        if type(layer).__name__ == "DepthwiseConv2d":
            layer.__class__ = torch.nn.Conv2d
    silence_dropout(network)
    transform, model, loss_of = LIGHTLY[technique](network, size)
    images = LightlyDataset(str(Path(pool)), transform=transform)
    images = torch.utils.data.Subset(images, spaced(len(images), limit).tolist())
    workers = os.cpu_count() or 1
    loader = torch.utils.data.DataLoader(images, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.06)

    def run():
        model.train()
        while True:
            for views, *_ in loader:
                loss = loss_of(*views)
                loss.backward()
                optimiser.step()
                optimiser.zero_grad()
                yield batch

    return "fp32", run(), network


def lightly_simclr(network: Any, size: int) -> tuple[Any, Any, Callable]:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torch import nn

    model = nn.Sequential(network, SimCLRProjectionHead(network.dim, network.dim, 128))
    criterion = NTXentLoss()
    return SimCLRTransform(input_size=size), model, lambda one, two: criterion(model(one), model(two))


def lightly_moco(network: Any, size: int) -> tuple[Any, Any, Callable]:
    import copy

    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import MoCoV2Transform
    from torch import nn

    model = nn.Sequential(network, MoCoProjectionHead(network.dim, network.dim, 128))
    key = copy.deepcopy(model)
    deactivate_requires_grad(key)
    criterion = NTXentLoss(memory_bank_size=(4096, 128))

    def loss_of(one, two):
        update_momentum(model, key, m=0.99)
        with torch.no_grad():
            keys = key(two)
        return criterion(model(one), keys)

    return MoCoV2Transform(input_size=size), model, loss_of


def lightly_byol(network: Any, size: int) -> tuple[Any, Any, Callable]:
    import copy

    import torch
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from torch import nn

    online = nn.Sequential(network, BYOLProjectionHead(network.dim, 1024, 256))
    target = copy.deepcopy(online)
    deactivate_requires_grad(target)
    predict = BYOLPredictionHead(256, 1024, 256)
    criterion = NegativeCosineSimilarity()

    def loss_of(one, two):
        update_momentum(online, target, m=0.99)
        with torch.no_grad():
            target_one, target_two = target(one), target(two)
        return (criterion(predict(online(one)), target_two) + criterion(predict(online(two)), target_one)) / 2

    views = BYOLTransform(BYOLView1Transform(input_size=size), BYOLView2Transform(input_size=size))
    return views, nn.ModuleList([online, predict]), loss_of


LIGHTLY = {"simclr": lightly_simclr, "moco_v2": lightly_moco, "byol": lightly_byol}


if __name__ == "__main__":
    main()
