"""What the encoders of a study look at: probes on a sample of its labelled images, and what its pictures are made of.

Everything is stored below <study>/inspect: results.csv, rows like the study's own, and a .npz for each look; what is
there is not done again. The sample is the same for all cells.
"""

import glob
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lilliput.data.masks import has_masks
from lilliput.data.store import Images, spaced
from lilliput.probes import LabelledExam
from lilliput.probes.knn import nearness
from lilliput.probes.linear import Classifier, fitted
from lilliput.probes.saliency import METHODS, saliency_maps
from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.judge import Judge, judge_run
from lilliput.studies.record import judging_images, read_study
from lilliput.system import signals
from lilliput.system.files import opened, write_whole
from lilliput.system.plan import nearest, own_threads
from lilliput.system.progress import Board, say
from lilliput.training.cell import cell_name
from lilliput.training.encoders import load_encoder, saved_encoders
from lilliput.training.record import read_run

TRAIN, TEST = 540, 360  # images of the sample
PROBES: dict[str, dict[str, Any]] = {
    "retrieval": {},
    "colour": {},
    "layers": {},
    "few_labels": {},
    "saliency": {"most": 40},
}
AT_ALL_EPOCHS: dict[str, dict[str, Any]] = {"geometry": {}}
UNTRAINED = ("saliency",)  # of PROBES, those that judge epoch 0 beside the last
# what rows of a probe have by its scores of today
TODAY = {"colour": "colour_pull_specific_pairs", "saliency": "on_object_own_images"}
NEIGHBOURS = 5
WORTH_A_WORKER = 4  # encoders


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


def open_sample(folder: Path, judging: tuple[Images, Images] | None = None) -> Sample:
    """A sample of the images that judged the study: those given, or the stores of their digests that lie here still.

    Raises BadData with the way out where they are gone.
    """
    return sample_of(read_study(folder), judging)


def sample_of(record: dict[str, Any], judging: tuple[Images, Images] | None = None) -> Sample:
    """As `open_sample`, of a study.json that was read already."""
    train, test = judging_images(record, judging)
    test = test.take(spread_by_class(test, TEST))
    queries = [np.flatnonzero(test.labels == number)[0] for number in range(len(test.classes))]
    return Sample(train.take(spread_by_class(train, TRAIN)), test, np.array(queries))


def spread_by_class(store: Images, count: int) -> np.ndarray:
    """At most so many rows, of every class alike."""
    each = max(10, count // len(store.classes))
    members = (np.flatnonzero(store.labels == number) for number in range(len(store.classes)))
    return np.sort(np.concatenate([own[spaced(len(own), each)] for own in members]))


def inspect(folder: Path, judge_name: str, sample: Sample, *, workers: int = 1) -> pd.DataFrame:
    """Judge every cell's last encoder by PROBES, its first by UNTRAINED and all by geometry; the rows, those of before
    too.

    `workers`: so many encoders at once, where there are enough of them to be worth a process.
    """
    inspected = folder / "inspect"
    results.mend(inspected)
    runs = [run for run in sorted((folder / "cells").glob("*")) if saved_encoders(run)]
    jobs = [(run.name, partial(_inspect_run, run, inspected)) for run in runs]
    make_desk = partial(Desk, judge_name, sample)
    engine, board, ended = processes.Processes(min(workers, len(jobs) // WORTH_A_WORKER)), Board(), 0
    with own_threads():
        for event in engine.run(jobs, make_desk, board, inspected):
            ended += isinstance(event, processes.Finished)
            board.hear(0, ("inspecting", ended, len(jobs)))  # no process has that number
            if isinstance(event, processes.Finished) and event.error:  # it costs no others their section
                say(f"{event.name} is left out: {event.error}")
    signals.check("stopped while the page was made")
    return results.read(inspected)


class Desk:
    """What a worker inspects at: the sample, and judges that remember an encoder which they have seen.

    Untrained encoders of a backbone are the same for most techniques.
    """

    def __init__(self, judge_name: str, sample: Sample):
        self.name, self.sample = judge_name, sample
        self.probes = {**AT_ALL_EPOCHS, **PROBES}
        if not has_masks(sample.test):
            del self.probes["saliency"]
        self._judges: dict[str, Judge] = {}

    def judge(self, record: dict[str, Any]) -> Judge:
        """Of a run, by its run.json."""
        plan, data = nearest(record["plan"]), record["data"]
        key = f"{plan} {data}"
        if key not in self._judges:
            self._judges[key] = Judge(self.name, *self.sample[:2], self.probes, plan=plan, data=data)
        return self._judges[key]

    def asked(self, epoch: int, saved: Collection[int]) -> set[str]:
        """The probes for the encoder of an epoch, among those saved."""
        asked = set(AT_ALL_EPOCHS)
        if max(saved):
            asked |= set(PROBES) if epoch == max(saved) else set(UNTRAINED) if epoch == min(saved) else set()
        return asked & set(self.probes)


def _inspect_run(run: Path, inspected: Path, desk: Desk) -> bool:
    """Says whether there was anything to do."""
    record, saved = read_run(run), saved_encoders(run)
    done = _done(record, inspected, desk.name)
    done |= {(epoch, name) for epoch in saved for name in set(desk.probes) - desk.asked(epoch, saved)}
    if all((epoch, name) in done for epoch in saved for name in desk.probes):
        return False
    judge = desk.judge(record)
    for rows in judge_run(run, judge, at=list(saved), done=done):
        judge.keep(inspected, rows)
    return True


def _done(record: dict[str, Any], inspected: Path, judge_name: str) -> set[tuple[int, str]]:
    """(epoch, probe) of the run that need no judging; rows by a score of before do."""
    rows = results.read(inspected)
    rows = rows[(rows.technique == record["technique"]) & (rows.backbone == record["backbone"])]
    rows = rows[(rows.seed == record["seed"]) & (rows.judge == judge_name) & rows["rows"].notna()]  # 0.1 counted none
    marked = set(zip(rows.epoch, rows.probe, rows.metric, strict=True))
    return {(at, name) for at, name in results.done(rows) if name not in TODAY or (at, name, TODAY[name]) in marked}


def looks_of(folder: Path, sample: Sample, cells: list[tuple[str, str]], *, epochs: bool = False) -> Iterator[Look]:
    """The last encoder of each (technique, backbone), of its first seed; with `epochs`, each of its encoders.

    Of its first seed that has trained ones that can be read: a cell of which none has is left out.
    """
    for technique, backbone in cells:
        for run in trained_runs(folder, technique, backbone):
            saved = saved_encoders(run)
            looks = [
                _look_or_none(run, epoch, saved[epoch], folder, sample) for epoch in (saved if epochs else [max(saved)])
            ]
            if found := [look for look in looks if look]:
                yield from found
                break


def trained_runs(folder: Path, technique: str, backbone: str) -> list[Path]:
    """The cell's folders that hold a trained encoder, by seed."""
    name = cell_name(technique, backbone, 0)[:-1]
    seeds = [path.name.removeprefix(name) for path in (folder / "cells").glob(f"{glob.escape(name)}*")]
    runs = [folder / "cells" / f"{name}{seed}" for seed in sorted(filter(str.isdecimal, seeds), key=int)]
    return [run for run in runs if any(saved_encoders(run))]


def saliency_of(folder: Path, look: Look, sample: Sample, rows: Sequence[int]) -> dict[str, np.ndarray]:
    """For each method, [N, H, W]: what the score of their own class hangs on, in these of the sample's test images."""
    run = folder / "cells" / cell_name(look.technique, look.backbone, look.seed)
    exam = _exam_of(saved_encoders(run)[look.epoch], read_run(run), sample)
    device = exam.plan.device
    images = sample.test.load(np.array(rows), device)
    labels = torch.as_tensor(sample.test.labels[rows], device=device)
    classify = Classifier(*(torch.as_tensor(part, device=device) for part in look.classifier))
    return {m: saliency_maps(exam.encoder, classify, images, labels, m).cpu().numpy() for m in METHODS}


def _look_or_none(run: Path, epoch: int, path: Path, folder: Path, sample: Sample) -> Look | None:
    signals.check("stopped while the page was made")
    try:
        return _look(run, epoch, path, folder / "inspect", sample)
    except Exception as error:  # its cell's other seeds can stand for it
        say(f"{run.name} epoch {epoch} is not shown: {error}")
        return None


def _look(run: Path, epoch: int, path: Path, inspected: Path, sample: Sample) -> Look:
    """That of before, where the encoder is no newer; else made anew, and stored."""
    record, file = read_run(run), inspected / f"{run.name}-{epoch:03}.npz"
    encoder = record["technique"], record["backbone"], record["seed"], epoch
    if file.exists() and file.stat().st_mtime >= path.stat().st_mtime:
        # what a damaged file makes numpy raise is not documented; it is made anew
        with suppress(Exception), opened(file) as content, np.load(content, allow_pickle=False) as stored:
            parts = tuple(stored[name] for name in Classifier._fields)
            return Look(*encoder, stored["scores"], stored["neighbours"], stored["features"], parts)
    arrays = _arrays(_exam_of(path, record, sample), sample)
    inspected.mkdir(parents=True, exist_ok=True)
    write_whole(file, _npz(arrays))
    parts = tuple(arrays[name] for name in Classifier._fields)
    return Look(*encoder, arrays["scores"], arrays["neighbours"], arrays["features"], parts)


def _arrays(exam: LabelledExam, sample: Sample) -> dict[str, np.ndarray]:
    """What a look is stored as: its arrays by their names, and the parts of its classifier."""
    classify = exam.once(fitted).classify
    queries = exam.test_features[torch.as_tensor(sample.queries, device=exam.plan.device)]
    tensors = {
        "scores": classify(exam.test_features).softmax(1),
        "neighbours": nearness(queries, exam.train_features)["euclidean"].topk(NEIGHBOURS).indices,
        "features": exam.test_features,
        **dict(zip(Classifier._fields, classify, strict=True)),
    }
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _exam_of(path: Path, record: dict[str, Any], sample: Sample) -> LabelledExam:
    """A saved encoder before the sample."""
    plan = nearest(record["plan"])
    encoder = plan.place(load_encoder(path))
    return LabelledExam(encoder, sample.train, sample.test, plan=plan, seed=record["seed"], label=path.parent.name)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
