"""What is learned in a given time: cells trained for so many seconds of this machine, judged by labelled images.

python -m benchmarks.learning --data DIR [--size 40] [--levers NAME ...] [--seconds 120] [--seeds 0]

Each lever changes one thing of a cell, which may be its recipe; `distilled` gives half of the seconds to a teacher.
Seconds become steps by the images a second of a trial, measured once and kept in speeds.json: a busy machine then
changes the clock and not the training. Measure them on an idle machine: --speeds does this and no more. Judged by five
folds of the labelled training images: a linear probe and k nearest neighbours by cosine. Test images are looked at with
--test alone, once, in the end. What is in <out>/trials.jsonl is not done again; every call prints the table of what is
there.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import throughput

if TYPE_CHECKING:
    import torch

    from lilliput.data.store import Data, Images
    from lilliput.system.plan import Plan
    from lilliput.training.initial import Teacher
    from lilliput.training.loop import Learner

# name -> what differs from the small recipe of a technique and the stock network; `size` multiplies the given one
LEVERS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "as it was": {"optimiser": "sgd", "zero_residuals": False},
    "without zero residuals": {"zero_residuals": False},
    "sgd": {"optimiser": "sgd"},
    "muon": {"optimiser": "muon", "muon_steps": 150},
    "muon .01": {"optimiser": "muon", "muon_rate": 0.33, "muon_steps": 0, "zero_residuals": False},
    "muon .03": {"optimiser": "muon", "muon_rate": 1.0, "muon_steps": 0, "zero_residuals": False},
    "half": {"stem": "half"},
    "quarter": {"stem": "quarter"},
    "1.6 times the size": {"size": 1.6},
    "half, batch 64": {"stem": "half", "batch": 64},
    "half, 2 small views": {"stem": "half", "small_views": 2},
    "half, milder crops": {"stem": "half", "area": 0.3},
    "2 small views": {"small_views": 2},
    "distilled": {"teacher": "simclr resnet18"},  # whatever the technique
    "paper, batch 256": {"recipe": "paper", "batch": 256},
    "lightly": {"by": "lightly", "batch": 128},  # its documented recipe (extra `bench`)
}
OF_TRIAL = ("recipe", "batch", "teacher", "by")  # what no technique and no network takes as an option
OF_RECIPE = ("optimiser", "zero_residuals", "muon_rate", "muon_steps")  # what a row tells of the recipe, whatever it is
UNTIMED = ("zero_residuals", "muon_rate", "muon_steps")  # of which no step takes longer
OF_BARE = {"squeezenet"}  # without norms: the recipe's own optimiser and rate stay
WITHOUT_RESIDUALS = {"squeezenet", "shufflenet_v2"}
Side = tuple[int, "Plan", Any, Callable[..., Iterator[tuple[int, float | None]]]]
"""What trains a trial: its batch, the plan to judge by, its encoder, and what trains so many steps a part."""
PARTS = 8  # of a training, after any of which it can be judged
FOLDS = 5


@dataclass(frozen=True)
class Trial:
    """A cell that is to be trained: all that determines it, but for the number of steps."""

    data: str  # a folder: train/, test/ and, if the pool is more than train/, unlabeled/
    technique: str
    backbone: str
    seed: int
    size: int
    seconds: float
    settings: dict[str, Any]  # those of a lever that the technique, the backbone or the recipe takes

    @property
    def key(self) -> str:
        return json.dumps(dataclasses.asdict(self) | {"data": Path(self.data).name}, sort_keys=True)

    @property
    def own_seconds(self) -> float:
        """Without those of its teacher."""
        return self.seconds / 2 if "teacher" in self.settings else self.seconds

    @property
    def paced_by(self) -> str:
        """What its images a second depend on, as a name."""
        timed = {name: value for name, value in self.settings.items() if name not in UNTIMED}
        return json.dumps([self.technique, self.backbone, self.size, timed], sort_keys=True)


def main() -> None:
    options = _parsed()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if options.one:
        _in_this_process(Trial(**json.loads(options.one)), out, options.points, test=options.test)
        return
    trials = {lever: list(_trials(lever, options)) for lever in options.levers}
    if options.speeds:
        for trial in chain.from_iterable(trials.values()):
            print(trial.paced_by, known_speed(trial, out), flush=True)
        return
    done = {row["key"] for row in rows_of(out) if row["share"] == 1}
    for lever, own in trials.items():
        for number, trial in enumerate(own, 1):
            if trial.key not in done:
                print(f"{lever} {number}/{len(own)}: {trial.technique} {trial.backbone} {trial.seed}", flush=True)
                _in_own_process(trial, options)
                done.add(trial.key)
    print(table(trials, rows_of(out)))


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
    parser.add_argument("--out", default="results/learning")
    parser.add_argument("--speeds", action="store_true", help="measure how fast these trials are, and no more")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _trials(lever: str, options: argparse.Namespace) -> Iterator[Trial]:
    """Of each technique, backbone and seed; two levers may be one trial where a technique takes none of them."""
    settings = dict(LEVERS[lever])
    size = round(options.size * settings.pop("size", 1))
    techniques = ["distil"] if "teacher" in settings else options.techniques
    for seed in options.seeds:
        for backbone in options.backbones:
            for technique in techniques:
                own = _own_settings(technique, backbone, settings)
                yield Trial(str(options.data), technique, backbone, seed, size, options.seconds, own)


def _own_settings(technique: str, backbone: str, settings: dict[str, Any]) -> dict[str, Any]:
    told = _told_in_full(technique, settings)
    return {name: value for name, value in told.items() if _takes(technique, backbone, name)}


def _told_in_full(technique: str, settings: dict[str, Any]) -> dict[str, Any]:
    """With what the stock network and the technique's recipe say where the lever says nothing."""
    from lilliput.training.cell import recipe_of

    if "by" in settings:
        return settings
    recipe = recipe_of(technique, settings.get("recipe", "small"))
    told = {"stem": "stock", **{name: getattr(recipe, name) for name in OF_RECIPE}, **settings}
    return {name: value for name, value in told.items() if told["optimiser"] == "muon" or "muon" not in name}


def _takes(technique: str, backbone: str, name: str) -> bool:
    from lilliput import catalog

    if name == "zero_residuals":
        return backbone not in WITHOUT_RESIDUALS
    if name in OF_TRIAL:
        return True
    if name in catalog.recipe_options():
        return backbone not in OF_BARE
    return any(
        name == option.name
        for kind, own in (("techniques", technique), ("backbones", backbone))
        for option in catalog.entry(kind, own).options
    )


def _in_own_process(trial: Trial, options: argparse.Namespace) -> None:
    """As a command would run it, with its memory to itself; one that fails is a row, too, and costs no other."""
    words = [sys.executable, "-m", "benchmarks.learning", "--one", json.dumps(dataclasses.asdict(trial))]
    words += ["--out", options.out, "--points", *map(str, options.points), *(["--test"] if options.test else [])]
    if subprocess.run(words, env=throughput.environment("ours")).returncode:
        _keep(Path(options.out), trial, {"share": 1, "failed": True})


def _in_this_process(trial: Trial, out: Path, points: list[int], *, test: bool) -> None:
    from lilliput.datasets import open_data

    data = open_data(trial.data, image_size=trial.size)
    speed = known_speed(trial, out)
    sides = {"ours": _by_us, "lightly": _by_lightly}
    batch, plan, encoder, parts = sides[trial.settings.get("by", "ours")](trial, data, out)
    steps = steps_a_part(trial, speed, batch)
    known = {"images_per_s": round(speed, 1), "steps": PARTS * steps, "batch": batch}
    began, judging = time.perf_counter(), 0.0
    for part, loss in parts(steps, judged=points):
        spent = time.perf_counter() - began - judging
        figures = judged(encoder, data.train, plan)
        if test and part == PARTS:
            figures |= on_test(encoder, data, plan)
        judging += time.perf_counter() - began - judging - spent
        _keep(out, trial, {**known, "share": part / PARTS, "loss": loss, "spent": round(spent, 1), **figures})


def _by_us(trial: Trial, data: "Data", out: Path) -> Side:
    learner = learner_of(trial, taught_by(trial, data.pool, out))
    parts = partial(parts_of, learner, data.pool, seed=trial.seed)
    return learner.recipe.batch, learner.plan, learner.technique.encoder, parts


def _by_lightly(trial: Trial, data: "Data", out: Path) -> Side:
    from lilliput.system.plan import choose

    steps, encoder = lightly_of(trial)

    def parts(count: int, judged: list[int]) -> Iterator[tuple[int, None]]:
        for part in range(1, PARTS + 1):
            for _ in range(count):
                next(steps)
            if part in judged:
                yield part, None

    return trial.settings["batch"], choose("cpu", {"precision": "fp32"}), encoder, parts


def lightly_of(trial: Trial) -> tuple[Iterator[int], Any]:
    """Endless steps by its recipe on the files that ours are decoded from, and the encoder that they train."""
    folders = [folder for name in ("train", "unlabeled") if (folder := Path(trial.data) / name).is_dir()]
    case = throughput.Case(trial.technique, trial.backbone, trial.size, trial.settings["batch"], trial.data)
    _, steps, encoder = throughput.lightly(case, folders=folders)
    return steps, encoder


def steps_a_part(trial: Trial, images_per_s: float, batch: int) -> int:
    return max(1, round(trial.own_seconds * images_per_s / batch / PARTS))


def learner_of(trial: Trial, teacher: "Teacher | None" = None) -> "Learner":
    """The technique as a run begins it, by the plan that is measured for its backbone; a trial that is taught has an
    untrained teacher where none is given, which takes the same time."""
    from lilliput.system.resources import Resources
    from lilliput.training.cell import make_cell, plan_for
    from lilliput.training.loop import Learner

    options = {name: value for name, value in trial.settings.items() if name not in OF_TRIAL}
    settings: dict[str, Any] = {name: trial.settings[name] for name in ("recipe", "batch") if name in trial.settings}
    if "teacher" in trial.settings:
        settings["teacher"] = teacher or _untrained(*trial.settings["teacher"].split())
    cell = make_cell(trial.technique, trial.backbone, seed=trial.seed, epochs=PARTS, options=options, **settings)
    plan = plan_for(cell, trial.size, Resources())
    plan.take_effect()
    technique = cell.build()
    return Learner(technique, cell.recipe.suited(technique.encoder), plan)


def _untrained(technique: str, backbone: str) -> "Teacher":
    from lilliput.training.cell import make_cell
    from lilliput.training.initial import Init, Teacher

    return Teacher(Init("untrained", Path(), ""), make_cell(technique, backbone).build_encoder)


def taught_by(trial: Trial, images: "Images", out: Path) -> "Teacher | None":
    """The teacher that a trial names, trained for the other half of its seconds and kept in <out>/teachers."""
    from lilliput.training.encoders import save_encoder
    from lilliput.training.teacher import teacher_of

    if "teacher" not in trial.settings:
        return None
    technique, backbone = trial.settings["teacher"].split()
    settings = _own_settings(technique, backbone, {})
    own = Trial(trial.data, technique, backbone, trial.seed, trial.size, trial.own_seconds, settings)
    file = out / "teachers" / f"{technique}-{backbone}-{own.size}px-{own.seconds:g}s-{own.seed}.safetensors"
    if not file.exists():
        learner = learner_of(own)
        steps = steps_a_part(own, known_speed(own, out), learner.recipe.batch)
        list(parts_of(learner, images, steps, seed=own.seed, judged=[]))
        file.parent.mkdir(exist_ok=True)
        told = {"technique": own.technique, "backbone": own.backbone, "image_size": own.size, "seed": own.seed}
        save_encoder(file, learner.technique.encoder, {**told, "backbone_options": {}, "epoch": PARTS})
    return teacher_of(file)


def known_speed(trial: Trial, out: Path) -> float:
    """Images a second of such a trial: what speeds.json says, else what is measured now and written there."""
    path = out / "speeds.json"
    speeds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if trial.paced_by not in speeds:
        theirs = "by" in trial.settings
        steps = lightly_of(trial)[0] if theirs else _our_steps(trial)
        drained = throughput.DRAINED if theirs else 3
        speeds[trial.paced_by] = round(throughput.images_per_s(steps, drained=drained), 1)
        path.write_text(json.dumps(speeds, indent=0, sort_keys=True), encoding="utf-8")
    return speeds[trial.paced_by]


def _our_steps(trial: Trial) -> Iterator[int]:
    from lilliput.datasets import open_data

    images, learner = open_data(trial.data, image_size=trial.size).pool, learner_of(trial)
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


def judged(encoder: Any, train: "Images", plan: "Plan") -> dict[str, float]:
    """Accuracies of a linear probe and of nearest neighbours, each image told by what was fitted to other folds."""
    import torch

    from lilliput.probes import effective_rank, extract

    was_training = encoder.training
    features = extract(encoder, train, plan=plan, label="judging")
    encoder.train(was_training)
    labels = torch.as_tensor(train.labels, device=features.device)
    told = [_told(features, labels, fold, len(train.classes)) for fold in range(FOLDS)]
    linear, knn = (sum(right) / len(labels) for right in zip(*told, strict=True))
    return {"linear": round(linear, 4), "knn": round(knn, 4), "rank": round(effective_rank(features), 1)}


def _told(features: "torch.Tensor", labels: "torch.Tensor", fold: int, classes: int) -> tuple[float, float]:
    """How many images of a fold are told right by the linear probe and by kNN; the next fold chooses the decay."""
    from lilliput.probes.knn import vote
    from lilliput.probes.linear import best_classifier, classifier

    place = folds(labels.cpu().numpy())
    asked, chooses, rest = place == fold, place == (fold + 1) % FOLDS, place != fold
    fitted = rest & ~chooses
    settings: dict[str, Any] = {"classes": classes, "steps": 200, "tolerance": 1e-4}
    _, decay, _ = best_classifier(features[fitted], labels[fitted], features[chooses], labels[chooses], **settings)
    classify, _ = classifier(features[rest], labels[rest], decay=decay, **settings)
    near = vote(features[asked], features[rest], labels[rest], classes, 20)["cosine"]
    guesses = classify(features[asked]).argmax(1), near
    return tuple((guess == labels[asked]).sum().item() for guess in guesses)  # type: ignore[return-value]


def folds(labels: np.ndarray) -> np.ndarray:
    """The fold of each image: within every class in turn."""
    place = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members)) % FOLDS
    return place


def on_test(encoder: Any, data: "Data", plan: "Plan") -> dict[str, float]:
    from lilliput.probes import LabelledExam, sorted_out
    from lilliput.probes.linear import linear

    figures = sorted_out(linear(LabelledExam(encoder, *data.judging, plan=plan))).figures
    return {"test": round(dict(figures)["accuracy"], 4)}


def rows_of(out: Path) -> list[dict[str, Any]]:
    path = out / "trials.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _keep(out: Path, trial: Trial, found: dict[str, Any]) -> None:
    row = {"key": trial.key, **dataclasses.asdict(trial), **found}
    if any(known["key"] == trial.key and known["share"] == row["share"] for known in rows_of(out)):
        return  # of a training that was broken off: its first parts come out the same again
    with (out / "trials.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"data": Path(trial.data).name}) + "\n")
    print(json.dumps(found), flush=True)


def table(trials: dict[str, list[Trial]], rows: list[dict[str, Any]]) -> str:
    """A line for each lever and share of its time; a column for each cell: linear / kNN, means over seeds."""
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
            mean = " / ".join(f"{value:.3f}" for value in np.nanmean(means, axis=0))
            seconds = own[0].seconds - own[0].own_seconds * (1 - share)
            head = f"| {Path(own[0].data).name} | {lever} | {own[0].size} | {seconds:.0f} |"
            lines.append(f"{head} {' | '.join(texts)} | {mean} |")
    return "\n".join(lines)


def _mean(trials: list[Trial], found: dict[tuple[str, float], dict[str, Any]], share: float) -> tuple[float, float]:
    """Linear and kNN accuracy over the seeds of a cell; NaN where none is there."""
    rows = [found[trial.key, share] for trial in trials if (trial.key, share) in found]
    linear, knn = ([row[name] for row in rows] or [float("nan")] for name in ("linear", "knn"))
    return float(np.mean(linear)), float(np.mean(knn))


if __name__ == "__main__":
    main()
