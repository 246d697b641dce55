"""Detectors on several encoders by one schedule -> rows of their average precision, and pictures of what they found."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from lilliput import catalog
from lilliput.data.store import spaced
from lilliput.detection.boxes import BoxedImages, open_boxes
from lilliput.detection.candidates import Candidate
from lilliput.detection.picture import draw
from lilliput.detection.scores import scores
from lilliput.detection.training import found_in, learn, recipe
from lilliput.errors import UnknownName
from lilliput.optim.recipe import Recipe
from lilliput.reports import markdown
from lilliput.reports.words import share
from lilliput.studies import results
from lilliput.system.files import write_whole
from lilliput.system.locks import alone
from lilliput.system.machine import command, commit, this_machine, versions
from lilliput.system.plan import Plan
from lilliput.system.progress import say
from lilliput.system.records import read_json, write_json
from lilliput.training.record import same_settings

RECORD = "detection.json"
SHOWN = 8  # test images of a picture


@dataclass(frozen=True)
class Task:
    """What is the same for all detectors: images, schedule, plan."""

    name: str  # of the images
    train: BoxedImages
    test: BoxedImages
    recipe: Recipe
    plan: Plan

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "judge": self.name,
            "judge_digests": [self.train.digest, self.test.digest],
            "image_size": self.train.image_size,
            "steps": self.recipe.epochs,
            "batch": self.recipe.batch,
            "lr": self.recipe.lr,
            "precision": self.plan.precision,
        }


def schedule(*, steps: int, batch: int, lr: float, modes: Sequence[str]) -> Recipe:
    """The recipe; BadSetting for what cannot work, UnknownName for a mode that there is not."""
    for mode in modes:
        if mode not in catalog.DETECTION_MODES:
            raise UnknownName(f"mode {mode!r} is none of {', '.join(catalog.DETECTION_MODES)}")
    return recipe(steps=steps, batch=batch, lr=lr)


def open_task(data: str | os.PathLike, size: int, how: Recipe, plan: Plan, *, test_share: float | None = None) -> Task:
    """With the images read; BadData where they cannot be used."""
    train, test = open_boxes(data, size, test_share=test_share)
    return Task(Path(data).resolve().name, train, test, how, plan)


def detect(task: Task, encoders: Sequence[Candidate], modes: Sequence[str], out: Path) -> None:
    """Rows into <out>/results.csv, a picture for each detector; what is there already is not done again.

    BadSetting where the folder holds detectors of other images or another schedule, or of another encoder of a name.
    """
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        _keep_record(task, encoders, out)
        results.mend(out)
        for encoder in encoders:
            for mode in modes:
                if not _is_done(encoder, mode, out):
                    _detect(task, encoder, mode, out)
    write_whole(out / "table.md", table(results.read(out)).encode())


def table(rows: pd.DataFrame) -> str:
    """AP and AP50 of every detector, in markdown."""
    by = ["technique", "backbone", "epoch", "seed", "probe"]
    wide = rows.pivot_table(index=[*by, "probe_seconds"], columns="metric", values="value", sort=False).reset_index()
    lines = []
    for line in wide.to_dict("records"):
        names = [markdown.escape(line["technique"]), markdown.escape(line["backbone"]), line["epoch"], line["seed"]]
        figures = [share(line["ap"]), share(line["ap50"]), f"{line['probe_seconds']:.0f}"]
        lines.append([*map(str, names), line["probe"].removeprefix(probe_of("")), *figures])
    return markdown.table([*by[:4], "mode", "AP", "AP50", "seconds"], lines) + "\n"


def _keep_record(task: Task, encoders: Sequence[Candidate], out: Path) -> None:
    path = out / RECORD
    ours = {encoder.name: encoder.digest for encoder in encoders}
    theirs: dict[str, str] = {}
    if path.exists():
        record = read_json(path)
        theirs = record["encoders"]
        same_settings(record["settings"], task.settings, out)
        common = theirs.keys() & ours.keys()
        same_settings({name: theirs[name] for name in common}, {name: ours[name] for name in common}, out)
    circumstances = {
        "plan": task.plan.as_dict(),
        "classes": task.train.classes,
        "train_images": len(task.train),
        "test_images": len(task.test),
        "versions": versions(),
        "machine": this_machine(),
        "commit": commit(),
        "command": command(),
    }
    write_json(path, {"settings": task.settings, "encoders": {**theirs, **ours}, **circumstances})


def _is_done(encoder: Candidate, mode: str, out: Path) -> bool:
    rows = results.read(out)
    identity = zip(results.CELL, (encoder.technique, encoder.backbone, encoder.seed), strict=True)
    for column, value in identity:
        rows = rows[rows[column] == value]
    return (encoder.epoch, probe_of(mode)) in results.done(rows)


def probe_of(mode: str) -> str:
    """What the rows of a mode are called by."""
    return f"detection_{mode}"


def _detect(task: Task, encoder: Candidate, mode: str, out: Path) -> None:
    began = time.perf_counter()
    label = f"{encoder.technique} {encoder.backbone} {mode}"
    model = learn(
        encoder.build(),
        task.train,
        task.recipe,
        tuned=mode == "tuned",
        seed=encoder.seed,
        plan=task.plan,
        label=label,
    )
    found = found_in(model, task.test, plan=task.plan, label=f"{label}: test")
    values = list(scores(found, task.test))
    write_whole(out / f"{encoder.name}-{mode}.png", _picture(task.test, found, label))
    seconds = time.perf_counter() - began
    results.append(out, list(_rows(task, encoder, mode, values, seconds)))
    named = dict(values)
    say(f"{label}: AP {named['ap']:.3f}, AP50 {named['ap50']:.3f}")


def _rows(task: Task, encoder: Candidate, mode: str, values: list[tuple[str, float]], seconds: float) -> Iterator[dict]:
    same = {
        "technique": encoder.technique,
        "backbone": encoder.backbone,
        "seed": encoder.seed,
        "epoch": encoder.epoch,
        "probe": probe_of(mode),
        "judge": task.name,
        "image_size": task.train.image_size,
        "probe_seconds": round(seconds, 3),
        "commit": commit() or "",
        "rows": len(values),
    }
    for metric, value in values:
        yield {**same, "metric": metric, "value": value}


def _picture(test: BoxedImages, found: Sequence[dict[str, Tensor]], title: str) -> bytes:
    """Some of the test images, evenly spaced."""
    rows = spaced(len(test), SHOWN)
    return draw(test, [found[row] for row in rows], rows, title)
