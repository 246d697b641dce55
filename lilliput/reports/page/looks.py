"""What the encoders of a study look at: probes on a sample of its labelled images, and what its pictures are made of.

Everything is kept below <study>/inspect: results.csv, rows like the study's own, and a .npz for each look; what is
there is not done again. The sample is the same for all cells.
"""

import glob
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lilliput.data.masks import masks_of
from lilliput.data.store import Images, spaced
from lilliput.errors import BadSetting
from lilliput.probes import LabelledExam
from lilliput.probes.knn import nearness
from lilliput.probes.linear import Classifier, fitted
from lilliput.studies import results
from lilliput.studies.judge import Judge, judge_run, judge_stores
from lilliput.studies.record import read_study
from lilliput.system.files import opened, write_whole
from lilliput.system.plan import Plan, choose, own_threads
from lilliput.system.progress import say, task
from lilliput.training.cell import cell_name
from lilliput.training.encoders import load_encoder, saved_encoders
from lilliput.training.record import read_run

TRAIN, TEST = 800, 600  # images of the sample
PROBES: dict[str, dict[str, Any]] = {
    "retrieval": {},
    "colour": {},
    "layers": {},
    "few_labels": {},
    "saliency": {"most": 40},
}
NEIGHBOURS = 5


class Look(NamedTuple):
    """What one encoder says of the sample's test images."""

    technique: str
    backbone: str
    seed: int
    epoch: int
    scores: np.ndarray  # [M, C] chances of the classes, by the linear probe
    neighbours: np.ndarray  # [Q, 5] rows of the sample's training images nearest to the queries, by Euclid
    features: np.ndarray  # [M, D]
    classifier: tuple[np.ndarray, ...]  # the parts of a Classifier


class Sample(NamedTuple):
    """The images that all encoders are inspected on."""

    train: Images
    test: Images
    queries: np.ndarray  # rows of test, one of every class


def open_sample(folder: Path, judge: tuple[Images, Images] | None = None) -> Sample:
    """A sample of the images that judged the study: those given, or the stores of their digests that lie here still.

    Raises BadData with the way out where they are gone.
    """
    train, test = judge_stores(read_study(folder), judge)
    labels = _spread_by_class(test, TEST)
    test = test.take(labels)
    queries = [np.flatnonzero(test.labels == number)[0] for number in range(len(test.classes))]
    return Sample(train.take(_spread_by_class(train, TRAIN)), test, np.array(queries))


def _spread_by_class(store: Images, count: int) -> np.ndarray:
    """At most so many rows, of every class alike."""
    each = max(10, count // len(store.classes))
    members = (np.flatnonzero(store.labels == number) for number in range(len(store.classes)))
    return np.sort(np.concatenate([own[spaced(len(own), each)] for own in members]))


def inspect(folder: Path, sample: Sample) -> pd.DataFrame:
    """Judge every cell's last encoder by PROBES, and all encoders by geometry; the rows, those of before too."""
    place, study = folder / "inspect", read_study(folder)
    results.mend(place)
    runs = [run for run in sorted((folder / "cells").glob("*")) if saved_encoders(run)]
    with own_threads(), task("inspecting", len(runs)) as advance:
        for run in runs:
            try:
                _inspect_run(run, place, study, sample)
            except Exception as error:  # one encoder that cannot be read costs no others their section
                say(f"{run.name} is left out: {error}")
            advance(1)
    return results.read(place)


def _inspect_run(run: Path, place: Path, study: dict, sample: Sample) -> None:
    record = read_run(run)
    rows = results.read(place)
    own = rows[(rows.technique == record["technique"]) & (rows.backbone == record["backbone"])]
    own = own[own.seed == record["seed"]]
    done = results.done(own[own.judge == study["judge"]])
    saved = saved_encoders(run)
    last = max(saved)
    probes: dict[str, dict[str, Any]] = PROBES if last else {}
    if masks_of(sample.test) is None:
        probes = {name: options for name, options in probes.items() if name != "saliency"}
    always: dict[str, dict[str, Any]] = {"geometry": {}}
    plan = plan_of(record)
    for names, epochs in ((always, list(saved)), (probes, [last])):
        if names and any((epoch, name) not in done for epoch in epochs for name in names):
            judge = Judge(study["judge"], sample.train, sample.test, names, plan=plan, data=record["data"])
            for found in judge_run(run, judge, at=epochs, done=done):
                judge.keep(place, found)


def plan_of(record: dict) -> Plan:
    """The precision and format that the run's encoders were judged in, on the best device here."""
    kept = {key: record["plan"][key] for key in ("precision", "channels_last")}
    try:
        return choose(fixed=kept)
    except BadSetting:  # half precision, of an accelerator that this machine has not
        return choose(fixed={**kept, "precision": "fp32"})


def looks_of(folder: Path, sample: Sample, cells: list[tuple[str, str]], *, epochs: bool = False) -> Iterator[Look]:
    """The last encoder of each (technique, backbone), of its first seed; with `epochs`, each of its encoders."""
    for technique, backbone in cells:
        pattern = glob.escape(cell_name(technique, backbone, 0)[:-1]) + "*"
        for run in sorted((folder / "cells").glob(pattern))[:1]:
            saved = saved_encoders(run)
            for epoch in saved if epochs else [max(saved)]:
                yield _look(run, epoch, saved[epoch], folder / "inspect", sample)


def _look(run: Path, epoch: int, path: Path, place: Path, sample: Sample) -> Look:
    record = read_run(run)
    file = place / f"{run.name}-{epoch:03}.npz"
    about = record["technique"], record["backbone"], record["seed"], epoch
    if file.exists() and file.stat().st_mtime >= path.stat().st_mtime:
        # what a damaged file makes numpy raise is not documented; it is made anew
        with suppress(Exception), opened(file) as content, np.load(content, allow_pickle=False) as kept:
            parts = tuple(kept[name] for name in Classifier._fields)
            return Look(*about, kept["scores"], kept["neighbours"], kept["features"], parts)
    exam = exam_of(path, record, sample)
    classify = exam.once(fitted).classify
    scores = classify(exam.test_features).softmax(1)
    queries = exam.test_features[torch.as_tensor(sample.queries, device=exam.plan.device)]
    near = nearness(queries, exam.train_features)["euclidean"].topk(NEIGHBOURS).indices
    arrays = [part.cpu().numpy() for part in (scores, near, exam.test_features)]
    found = Look(*about, arrays[0], arrays[1], arrays[2], tuple(part.cpu().numpy() for part in classify))
    kept = ["scores", "neighbours", "features", *Classifier._fields]
    place.mkdir(parents=True, exist_ok=True)
    write_whole(file, _npz(**dict(zip(kept, [*arrays, *found.classifier], strict=True))))
    return found


def exam_of(path: Path, record: dict, sample: Sample) -> LabelledExam:
    """A saved encoder before the sample."""
    plan = plan_of(record)
    encoder = plan.place(load_encoder(path))
    return LabelledExam(encoder, sample.train, sample.test, plan=plan, seed=record["seed"], label=path.parent.name)


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
