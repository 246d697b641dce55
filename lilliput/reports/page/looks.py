"""What the encoders of a study look at: probes on a sample of its labelled images, and what its pictures are made of.

Everything is stored below <study>/inspect: results.csv, rows like the study's own, and a .npz for each look; what is
there is not done again. The sample is the same for all cells.
"""

import glob
import io
from collections.abc import Collection, Iterator
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
from lilliput.probes.linear import fitted
from lilliput.probes.saliency import METHODS, saliency_maps
from lilliput.reports.page.crew import share_out
from lilliput.studies import results
from lilliput.studies.judge import Judge, judge_run
from lilliput.studies.record import judging_images, read_study
from lilliput.system import signals
from lilliput.system.files import opened, write_whole
from lilliput.system.plan import nearest
from lilliput.system.progress import say
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
PANEL = ("gradient", "grad_cam")  # of METHODS, those that every cell is shown by
CLASSES_SHOWN, CLASSES_OF_PANEL = 10, 2
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
    cases: np.ndarray  # [K] rows of the test images that it is shown by: see `cases_of`
    maps: np.ndarray  # [2 or 4, K, H, W] by PANEL or all METHODS: what the score of their own class hangs on

    def map_of(self, method: str) -> np.ndarray:
        """[K, H, W], of the cases."""
        return self.maps[list(_methods(is_close=len(self.maps) > len(PANEL))).index(method)]


STORED = Look._fields[Look._fields.index("scores") :]  # in the .npz of a look


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


def inspect(
    folder: Path, judge_name: str, sample: Sample, *, close: Collection[tuple[str, str]] = (), workers: int = 1
) -> pd.DataFrame:
    """Judge every cell's last encoder by PROBES, its first by UNTRAINED and all by geometry; the rows, those of before
    too. Each cell is looked at once; those of the (technique, backbone) `close` closely.

    `workers`: so many encoders at once, where there are enough of them to be worth a process.
    """
    inspected = folder / "inspect"
    results.mend(inspected)
    runs = [run for run in sorted((folder / "cells").glob("*")) if saved_encoders(run)]
    jobs = [(run.name, partial(_inspect_run, run, inspected)) for run in runs]
    make_desk = partial(Desk, judge_name, sample, close)
    workers = min(workers, len(jobs) // WORTH_A_WORKER)
    for name, error in share_out(jobs, make_desk, label="inspecting", workers=workers, folder=inspected).items():
        say(f"{name} is left out: {error}")  # it costs no others their section
    return results.read(inspected)


class Desk:
    """What a worker inspects at: the sample, and judges that remember an encoder which they have seen.

    Untrained encoders of a backbone are the same for most techniques.
    """

    def __init__(self, judge_name: str, sample: Sample, close: Collection[tuple[str, str]] = ()):
        self.name, self.sample, self.close = judge_name, sample, close
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
    _look_ahead(run, record, max(saved), inspected, desk)
    if all((epoch, name) in done for epoch in saved for name in desk.probes):
        return False
    judge = desk.judge(record)
    for rows in judge_run(run, judge, at=list(saved), done=done):
        judge.keep(inspected, rows)
    return True


def _look_ahead(run: Path, record: dict[str, Any], epoch: int, inspected: Path, desk: Desk) -> None:
    """Store the look at a cell's last encoder, which the page will want, of its first seed."""
    cell = record["technique"], record["backbone"]
    if epoch and trained_runs(inspected.parent, *cell)[0] == run:
        with suppress(Exception):  # whoever wants to show it says what is amiss
            _look(run, epoch, inspected, desk.sample, is_close=cell in desk.close)


def _done(record: dict[str, Any], inspected: Path, judge_name: str) -> set[tuple[int, str]]:
    """(epoch, probe) of the run that need no judging; rows by a score of before do."""
    rows = results.read(inspected)
    rows = rows[(rows.technique == record["technique"]) & (rows.backbone == record["backbone"])]
    rows = rows[(rows.seed == record["seed"]) & (rows.judge == judge_name) & rows["rows"].notna()]  # 0.1 counted none
    marked = set(zip(rows.epoch, rows.probe, rows.metric, strict=True))
    return {(at, name) for at, name in results.done(rows) if name not in TODAY or (at, name, TODAY[name]) in marked}


def looks_of(
    folder: Path, sample: Sample, cells: list[tuple[str, str]], *, epochs: bool = False, is_close: bool = False
) -> Iterator[Look]:
    """The last encoder of each (technique, backbone), of its first seed; with `epochs`, each of its encoders.

    `is_close`: with more cases and all methods of saliency. Of its first seed that has trained ones that can be read:
    a cell of which none has is left out.
    """
    for technique, backbone in cells:
        for run in trained_runs(folder, technique, backbone):
            saved = saved_encoders(run)
            wanted = saved if epochs else [max(saved)]
            looks = [_look_or_none(run, epoch, folder, sample, is_close=is_close) for epoch in wanted]
            if found := [look for look in looks if look]:
                yield from found
                break


def trained_runs(folder: Path, technique: str, backbone: str) -> list[Path]:
    """The cell's folders that hold a trained encoder, by seed."""
    name = cell_name(technique, backbone, 0)[:-1]
    seeds = [path.name.removeprefix(name) for path in (folder / "cells").glob(f"{glob.escape(name)}*")]
    runs = [folder / "cells" / f"{name}{seed}" for seed in sorted(filter(str.isdecimal, seeds), key=int)]
    return [run for run in runs if any(saved_encoders(run))]


def cases_of(scores: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """For so many classes: the surest image told right, and the one told wrong whose class had the least chance.

    Rows of scores [M, C] and of their true classes [M]; of a class that is told all right or all wrong, one.
    """
    rows, guess = [], scores.argmax(1)
    for number in range(min(classes, scores.shape[1])):
        members = np.flatnonzero(truth == number)
        chance, is_right = scores[members, number], guess[members] == number
        rows += [members[is_right][chance[is_right].argmax()]] if is_right.any() else []
        rows += [members[~is_right][chance[~is_right].argmin()]] if not is_right.all() else []
    return np.array(rows, dtype=np.int64)


def _methods(*, is_close: bool) -> tuple[str, ...]:
    return METHODS if is_close else PANEL


def _look_or_none(run: Path, epoch: int, folder: Path, sample: Sample, *, is_close: bool) -> Look | None:
    signals.check("stopped while the page was made")
    try:
        return _look(run, epoch, folder / "inspect", sample, is_close=is_close)
    except Exception as error:  # its cell's other seeds can stand for it
        say(f"{run.name} epoch {epoch} is not shown: {error}")
        return None


def _look(run: Path, epoch: int, inspected: Path, sample: Sample, *, is_close: bool) -> Look:
    """That of before, where the encoder is no newer and it was close enough; else made anew, and stored."""
    record, file, path = read_run(run), inspected / f"{run.name}-{epoch:03}.npz", saved_encoders(run)[epoch]
    encoder = record["technique"], record["backbone"], record["seed"], epoch
    if file.exists() and file.stat().st_mtime >= path.stat().st_mtime:
        # what a damaged file makes numpy raise is not documented; it is made anew
        with suppress(Exception), opened(file) as content, np.load(content, allow_pickle=False) as stored:
            if len(stored["maps"]) >= len(_methods(is_close=is_close)):
                return Look(*encoder, *(stored[name] for name in STORED))
    arrays = _arrays(_exam_of(path, record, sample), sample, is_close=is_close)
    inspected.mkdir(parents=True, exist_ok=True)
    write_whole(file, _npz(arrays))
    return Look(*encoder, *(arrays[name] for name in STORED))


def _arrays(exam: LabelledExam, sample: Sample, *, is_close: bool) -> dict[str, np.ndarray]:
    """What a look is stored as, by the names of its fields."""
    classify, device, truth = exam.once(fitted).classify, exam.plan.device, sample.test.labels
    queries = exam.test_features[torch.as_tensor(sample.queries, device=device)]
    scores = classify(exam.test_features).softmax(1).cpu().numpy()
    cases = cases_of(scores, truth, CLASSES_SHOWN if is_close else CLASSES_OF_PANEL)
    images, labels = sample.test.load(cases, device), torch.as_tensor(truth[cases], device=device)
    maps = [saliency_maps(exam.encoder, classify, images, labels, name) for name in _methods(is_close=is_close)]
    return {
        "scores": scores,
        "neighbours": nearness(queries, exam.train_features)["euclidean"].topk(NEIGHBOURS).indices.cpu().numpy(),
        "features": exam.test_features.cpu().numpy(),
        "cases": cases,
        "maps": torch.stack(maps).cpu().numpy(),
    }


def _exam_of(path: Path, record: dict[str, Any], sample: Sample) -> LabelledExam:
    """A saved encoder before the sample."""
    plan = nearest(record["plan"])
    encoder = plan.place(load_encoder(path))
    return LabelledExam(encoder, sample.train, sample.test, plan=plan, seed=record["seed"], label=path.parent.name)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
