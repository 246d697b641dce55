"""What is learned in a given time: cells trained for so many seconds of this machine, judged by labelled images.

python -m benchmarks.learning --data DIR [--size 40] [--levers NAME ...] [--seconds 120] [--seeds 0]

Each lever changes one thing of a cell, which may be its recipe; `distilled` gives half of the seconds to a teacher,
`lightly` are the recipes of lightly's own benchmarks (benchmarks/peer.py). Seconds become steps by the images a second
of such a training, measured once on an idle machine and kept in speeds.json with the plan by which it trains: a busy
machine then changes the clock and not the training. --speeds measures and does no more. To write the store that ours
reads its images from is not counted: it is done once for all trainings; lightly decodes the files as it goes. Judged in
fp32 by five folds of the labelled training images: a linear probe and k nearest neighbours by cosine. Test images are
looked at with --test alone, once, in the end. What is in <out>/trials.jsonl, of the same images and recipe, is not done
again, but what failed is; every call prints the table of what is there. Several calls may share <out>.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import peer, speeds, throughput
from benchmarks.folds import judged, on_test
from benchmarks.levers import LEVERS, OF_TRIAL, Trial, digest_of_images, digest_of_recipe, own_settings
from benchmarks.speeds import Speed
from lilliput.system.records import json_digest

if TYPE_CHECKING:
    import torch

    from lilliput.data.store import Data, Images
    from lilliput.training.initial import Teacher
    from lilliput.training.loop import Learner

Side = tuple[int, Any, Callable[..., Iterator[tuple[int, float | None]]]]
"""What trains a trial: its batch, its encoder, and what trains so many steps a part."""
PARTS = 8  # of a training, after any of which it can be judged


def main() -> None:
    options = _parsed()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if options.one or options.speed:
        trial = Trial(**json.loads(options.one or options.speed))
        if options.one:
            _in_this_process(trial, out, options.points, test=options.test)
        else:
            print(json.dumps(measured_speed(trial)))
        return
    trials = {lever: list(_trials(lever, options)) for lever in options.levers}
    for trial in chain.from_iterable(trials.values()):
        for paced in filter(None, [trial, teacher_trial(trial)]):
            speed = known_speed(paced, out, may_measure=True)
            if options.speeds:
                print(paced.paced_by, speed.images_per_s, flush=True)
    if options.speeds:
        return
    for lever, own in trials.items():
        for number, trial in enumerate(own, 1):
            with speeds.alone(out / "locks" / json_digest(trial.key)[:12], wait=False) as lock:
                if lock is not None and not _is_done(trial, out, test=options.test):
                    print(f"{lever} {number}/{len(own)}: {trial.technique} {trial.backbone} {trial.seed}", flush=True)
                    _in_own_process(trial, options, lock)
    print(table(trials, rows_of(out)))


def _is_done(trial: Trial, out: Path, *, test: bool) -> bool:
    rows = [row for row in rows_of(out) if (row["key"], row["share"]) == (trial.key, 1)]
    return any(not row.get("failed") and ("test" in row or not test) for row in rows)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a folder with train/<class>/, test/<class>/ and unlabeled/")
    parser.add_argument("--levers", nargs="+", default=["as it is"], choices=list(LEVERS))
    parser.add_argument("--techniques", nargs="+", default=["simclr", "byol", "rotnet"])
    parser.add_argument("--backbones", nargs="+", default=["shufflenet_v2", "mobilenet_v2", "resnet18"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--size", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--points", nargs="+", type=int, default=[PARTS], help="of 8 parts, after which to judge")
    parser.add_argument("--test", action="store_true", help="judge what the last part leaves by the test images too")
    parser.add_argument("--out", default="results/equal-seconds")
    parser.add_argument("--speeds", action="store_true", help="measure how fast these trials are, and no more")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--speed", help=argparse.SUPPRESS)
    return parser.parse_args()


def _trials(lever: str, options: argparse.Namespace) -> Iterator[Trial]:
    """Of each technique, backbone and seed; two levers may be one trial where a technique takes none of them."""
    settings = dict(LEVERS[lever])
    size = round(options.size * settings.pop("size", 1))
    images = digest_of_images(str(options.data), size)
    techniques = ["distil"] if "teacher" in settings else options.techniques
    for seed in options.seeds:
        for backbone in options.backbones:
            for technique in techniques:
                own = own_settings(technique, backbone, settings)
                recipe = digest_of_recipe(technique, own)
                yield Trial(str(options.data), technique, backbone, seed, size, options.seconds, own, images, recipe)


def _in_own_process(trial: Trial, options: argparse.Namespace, lock: int) -> None:
    """As a command would run it, with its memory to itself; one that fails is a row, too, and costs no other."""
    words = [sys.executable, "-m", "benchmarks.learning", "--one", json.dumps(dataclasses.asdict(trial))]
    words += ["--out", options.out, "--points", *map(str, options.points), *(["--test"] if options.test else [])]
    if subprocess.run(words, env=throughput.environment(trial.side), pass_fds=(lock,)).returncode:
        _keep(Path(options.out), trial, {"share": 1, "failed": True})


def _in_this_process(trial: Trial, out: Path, points: list[int], *, test: bool) -> None:
    from lilliput.datasets import open_data
    from lilliput.system.plan import choose

    data = open_data(trial.data, image_size=trial.size)
    speed = known_speed(trial, out)
    batch, encoder, parts = {"ours": _by_us, "lightly": _by_lightly}[trial.side](trial, data, out, speed)
    steps, plan = steps_a_part(trial, speed, batch), choose(None, {"precision": "fp32"})
    known = {"images_per_s": speed.images_per_s, "plan": speed.plan, "steps": PARTS * steps, "batch": batch}
    began, judging = time.perf_counter(), 0.0
    for part, loss in parts(steps, judged=points):
        spent = time.perf_counter() - began - judging
        figures = judged(encoder, data.train, plan)
        if test and part == PARTS:
            figures |= on_test(encoder, data, plan)
        judging += time.perf_counter() - began - judging - spent
        _keep(out, trial, {**known, "share": part / PARTS, "loss": loss, "spent": round(spent, 1), **figures})


def _by_us(trial: Trial, data: "Data", out: Path, speed: Speed) -> Side:
    learner = learner_of(trial, taught_by(trial, data.pool, out), plan=speed.plan)
    parts = partial(parts_of, learner, data.pool, seed=trial.seed)
    return learner.recipe.batch, learner.technique.encoder, parts


def _by_lightly(trial: Trial, data: "Data", out: Path, speed: Speed) -> Side:
    batch = trial.settings["batch"]
    steps, encoder = lightly_of(trial, len(data.pool), steps=PARTS * steps_a_part(trial, speed, batch))

    def parts(count: int, judged: list[int]) -> Iterator[tuple[int, None]]:
        for part in range(1, PARTS + 1):
            for _ in range(count):
                next(steps)
            if part in judged:
                yield part, None

    return batch, encoder, parts


def lightly_of(trial: Trial, images: int, *, steps: int | None = None) -> tuple[Iterator[int], Any]:
    """Endless steps by its recipe on the files that ours are decoded from, and the encoder that they train.

    SystemExit where it reads other than so many images.
    """
    from lilliput.data.tree import layout_of

    layout, root = layout_of(Path(trial.data), quiet=True), Path(trial.data)
    folders = [folder for folder in (layout.train, layout.unlabelled) if folder] if layout else [root]
    if (read := len(peer.images_of(folders, None))) != images:
        raise SystemExit(f"lightly reads {read} images below {', '.join(map(str, folders))}, Lilliput {images}")
    case = peer.Case(trial.technique, trial.backbone, trial.size, trial.settings["batch"], trial.data, trial.seed)
    _, run, encoder = peer.lightly(case, trial.settings["recipe"], steps=steps, folders=folders)
    return run, encoder


def steps_a_part(trial: Trial, speed: Speed, batch: int) -> int:
    return max(1, round(trial.own_seconds * speed.images_per_s / batch / PARTS))


def learner_of(trial: Trial, teacher: "Teacher | None" = None, *, plan: dict[str, Any] | None = None) -> "Learner":
    """The technique as a run begins it, by this plan or the one that is measured for its backbone; a trial that is
    taught has an untrained teacher where none is given, which takes the same time."""
    from lilliput.system.resources import Resources
    from lilliput.training.cell import make_cell, plan_for
    from lilliput.training.loop import Learner

    options = {name: value for name, value in trial.settings.items() if name not in OF_TRIAL}
    settings: dict[str, Any] = {name: trial.settings[name] for name in ("recipe", "batch") if name in trial.settings}
    if "teacher" in trial.settings:
        settings["teacher"] = teacher or _untrained(*trial.settings["teacher"].split())
    cell = make_cell(trial.technique, trial.backbone, seed=trial.seed, epochs=PARTS, options=options, **settings)
    chosen = plan_for(cell, trial.size, Resources(plan=plan or {}))
    chosen.take_effect()
    technique = cell.build()
    return Learner(technique, cell.recipe.suited(technique.encoder), chosen)


def _untrained(technique: str, backbone: str) -> "Teacher":
    from lilliput.training.cell import make_cell
    from lilliput.training.initial import Init, Teacher

    return Teacher(Init("untrained", Path(), ""), make_cell(technique, backbone).build_encoder)


def teacher_trial(trial: Trial) -> Trial | None:
    """That of the teacher which a trial names, if it does: it has the other half of the seconds."""
    if "teacher" not in trial.settings:
        return None
    technique, backbone = trial.settings["teacher"].split()
    settings = own_settings(technique, backbone, {})
    return dataclasses.replace(
        trial,
        technique=technique,
        backbone=backbone,
        seconds=trial.own_seconds,
        settings=settings,
        recipe_digest=digest_of_recipe(technique, settings),
    )


def taught_by(trial: Trial, images: "Images", out: Path) -> "Teacher | None":
    """The teacher that a trial names, trained once for all that name it and kept in <out>/teachers."""
    from lilliput.training.encoders import save_encoder
    from lilliput.training.teacher import teacher_of

    own = teacher_trial(trial)
    if own is None:
        return None
    told = {"technique": own.technique, "backbone": own.backbone, "image_size": own.size, "seed": own.seed}
    file = out / "teachers" / f"{own.technique}-{own.backbone}-{json_digest(own.key)[:12]}.safetensors"
    with speeds.alone(out / "locks" / file.stem):
        if not file.exists():
            speed = known_speed(own, out)
            learner = learner_of(own, plan=speed.plan)
            steps = steps_a_part(own, speed, learner.recipe.batch)
            list(parts_of(learner, images, steps, seed=own.seed, judged=[]))
            file.parent.mkdir(exist_ok=True)
            save_encoder(file, learner.technique.encoder, {**told, "backbone_options": {}, "epoch": PARTS})
    return teacher_of(file)


def known_speed(trial: Trial, out: Path, *, may_measure: bool = False) -> Speed:
    """Images a second of such a trial on an idle machine, and its plan: known, or measured now where it may be."""
    words = ["benchmarks.learning", "--out", str(out), "--speed", json.dumps(dataclasses.asdict(trial))]
    return speeds.known(out / "speeds.json", trial.paced_by, words, trial.side, may_measure=may_measure)


def measured_speed(trial: Trial) -> dict[str, Any]:
    """As speeds.known reads it."""
    from lilliput.datasets import open_data

    images = open_data(trial.data, image_size=trial.size).pool
    if trial.side == "lightly":
        run, _ = lightly_of(trial, len(images))
        return {"windows": speeds.windows(run, drained=throughput.DRAINED), "plan": {}}
    learner = learner_of(trial)
    return {"windows": speeds.windows(_our_steps(learner, images), drained=3), "plan": learner.plan.fixed()}


def _our_steps(learner: "Learner", images: "Images") -> Iterator[int]:
    generator = learner.plan.generator(0)
    for batch in endless(images, learner, generator):
        learner.step(batch, generator)
        learner.technique.after_step(0.0)
        yield len(batch)


def endless(images: "Images", learner: "Learner", generator: "torch.Generator") -> Iterator["torch.Tensor"]:
    """Batches of the images, over and over."""
    size, device = learner.recipe.batch, learner.plan.device
    return chain.from_iterable(images.batches(size, device, epoch, generator) for epoch in count(1))


def parts_of(
    learner: "Learner", images: "Images", steps: int, *, seed: int, judged: list[int]
) -> Iterator[tuple[int, float]]:
    """Train PARTS times so many steps, however many epochs that is; (part, loss) after those to be judged."""
    from lilliput.training.loop import train

    if 0 in judged:
        yield 0, float("nan")
    stream = endless(images, learner, learner.plan.generator(seed))
    batches = lambda number, rng, first: islice(stream, steps)  # noqa: E731
    for epoch in train(learner, batches, steps, seed=seed):
        if epoch.number in judged:
            yield epoch.number, epoch.loss


def rows_of(out: Path) -> list[dict[str, Any]]:
    path = out / "trials.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _keep(out: Path, trial: Trial, found: dict[str, Any]) -> None:
    row = {"key": trial.key, **dataclasses.asdict(trial), **found}
    same = [known for known in rows_of(out) if (known["key"], known["share"]) == (trial.key, row["share"])]
    if any(found.keys() <= known.keys() for known in same):
        return  # of a training that was broken off: its first parts come out the same again
    with (out / "trials.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"data": Path(trial.data).name}) + "\n")
    print(json.dumps(found), flush=True)


def table(trials: dict[str, list[Trial]], rows: list[dict[str, Any]]) -> str:
    """A line for each lever and share of its time; a column for each cell: linear / kNN, means over seeds.

    A cell of which a seed is missing has no mean, a line of which a cell is missing neither.
    """
    found = {(row["key"], row["share"]): row for row in rows if not row.get("failed")}
    cells = list(dict.fromkeys((t.technique, t.backbone) for own in trials.values() for t in own))
    lines = [
        f"| data | lever | px | s | {' | '.join(f'{technique} {backbone}' for technique, backbone in cells)} | mean |",
        f"| --- | --- | ---: | ---: | {' | '.join('---:' for _ in cells)} | ---: |",
    ]
    for lever, own in trials.items():
        for share in sorted({share for key, share in found if key in {trial.key for trial in own}}):
            means = [_mean([t for t in own if (t.technique, t.backbone) == cell], found, share) for cell in cells]
            texts = [f"{linear:.3f} / {knn:.3f}" if linear == linear else "–" for linear, knn in means]
            mean = " / ".join(f"{value:.3f}" for value in np.mean(means, axis=0)) if "–" not in texts else "–"
            seconds = own[0].seconds - own[0].own_seconds * (1 - share)
            head = f"| {Path(own[0].data).name} | {lever} | {own[0].size} | {seconds:.0f} |"
            lines.append(f"{head} {' | '.join(texts)} | {mean} |")
    return "\n".join(lines)


def _mean(trials: list[Trial], found: dict[tuple[str, float], dict[str, Any]], share: float) -> tuple[float, float]:
    """Linear and kNN accuracy over the seeds of a cell; NaN where one is not there."""
    rows = [found.get((trial.key, share), {}) for trial in trials]
    linear, knn = ([row.get(name, float("nan")) for row in rows] for name in ("linear", "knn"))
    return float(np.mean(linear)), float(np.mean(knn))


if __name__ == "__main__":
    main()
