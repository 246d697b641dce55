"""What is done with saved encoders: probes, transfer, detectors, pruning, checks, reports."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.data.store import Data, Images
from lilliput.datasets import Source
from lilliput.errors import BadData, BadSetting
from lilliput.studies import results
from lilliput.studies.engines import engine_of, processes
from lilliput.studies.record import read_study
from lilliput.system.door import door
from lilliput.system.mirror import here
from lilliput.system.plan import Plan, choose, like
from lilliput.system.visible import visible
from lilliput.training.encoders import saved_encoders
from lilliput.training.prune import Pruning
from lilliput.training.prune import prune as prune_run
from lilliput.training.record import read_run


@door
def probe(
    folder: str | os.PathLike,
    data: str | os.PathLike | Data = catalog.USUAL_DATA,
    *,
    probes: Sequence[str] = ("linear", "knn"),
    at: Sequence[int] | None = None,
    data_folder: str | os.PathLike | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
):
    """Judge every saved encoder of a run (or those of the epochs `at`); rows are kept in its results.csv and returned.

    Any labelled data set can be the judge, prepared at the image size of the run; for probes that need no labels any
    images can. Returns a pandas DataFrame.
    """
    from lilliput.studies.judge import Judge, judge_run, told_apart

    folder = here(folder)
    probes = [catalog.take("probes", name) for name in probes]
    record, chosen = _opened_run(folder, device, plan)
    size = record["image_size"]
    source = Source(data, folder=data_folder, image_size=size, limit=2, test_share=test_share, labels=labels)
    judging = source.open(judging=True)
    if judging.train is None or judging.test is None:  # enough for probes that need no labels
        images = dataclasses.replace(source, limit=None).open().pool
        judging = Data(judging.name, images, images, images)
    train, test = judging.judging
    name = told_apart(folder, judging.name, [train.digest, test.digest])
    judge = Judge(name, train, test, {probe: {} for probe in probes}, plan=chosen, data=record["data"])
    for rows in judge_run(folder, judge, at=list(at) if at else None):
        judge.keep(folder, rows)
    return results.read(folder)


def _opened_run(folder: Path, device: str | None, plan: Mapping[str, Any] | None) -> tuple[dict[str, Any], Plan]:
    """A run's run.json, and the plan to judge its encoders by."""
    if not (folder / "run.json").exists():
        raise BadData(f"{folder} is not the folder of a run: it has no run.json")
    record = read_run(folder)
    catalog.check_known(record)
    return record, like(record["plan"], device, plan)


@door
def transfer(
    folder: str | os.PathLike,
    to: str | os.PathLike | Data | Sequence[str | os.PathLike | Data],
    *,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
):
    """A run's last encoder before several labelled data sets or folders, by the linear probe, at the run's image size.

    Returns a pandas DataFrame: for each data set the mean of its classes' accuracies (0..1) by the encoder, by what it
    started from, and by raw pixels. All rows are kept in the run's transfer/results.csv.
    """
    from lilliput.studies.judge import Judge, told_apart
    from lilliput.studies.transfer import transferred

    folder = here(folder)
    names = [to] if isinstance(to, str | os.PathLike | Data) else list(to)
    if not names:
        raise BadSetting("to is empty; give one or more labelled data sets or folders")
    record, chosen = _opened_run(folder, device, plan)
    judges = []
    for name in names:
        source = Source(name if isinstance(name, Data) else os.path.expanduser(name), image_size=record["image_size"])
        opened = dataclasses.replace(source, limit=2).open(judging=True)
        train, test = opened.judging
        known = visible(told_apart(folder / "transfer", opened.name, [train.digest, test.digest]))  # as rows have it
        judges.append(Judge(known, train, test, {"linear": {}}, plan=chosen, data=record["data"]))
    return transferred(folder, judges)


@door
def detect(
    saved: str | os.PathLike | Sequence[str | os.PathLike],
    data: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    image_size: int = 224,
    steps: int = 600,
    batch: int = 8,
    lr: float = 2e-3,
    modes: Sequence[str] = catalog.DETECTION_MODES,
    baselines: Sequence[str] = ("random_init",),
    imagenet_weights: str | os.PathLike | None = None,
    test_share: float | None = None,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
) -> Path:
    """Train an SSDLite detector on each saved encoder, and on baselines, by one schedule; only what is missing.

    `saved`: files of encoders, folders of runs (the last encoder counts) or of studies. `data`: a folder of images with
    boxes, with train/ and test/ or without; a `test_share` of the latter judges. `modes`: the encoder "frozen" or
    "tuned". `baselines`: random_init, imagenet. Needs the extra `detection`. Returns the folder of the results: rows of
    average precision (results.csv), a table, a picture of boxes for each detector.
    """
    from lilliput.detection import detect as detection
    from lilliput.detection.candidates import candidates
    from lilliput.detection.scores import check_libraries

    check_libraries()
    saved = [saved] if isinstance(saved, str | os.PathLike) else saved
    places = [here(os.path.expanduser(place)) for place in saved]
    encoders = candidates(places, baselines, imagenet_weights)
    how = detection.schedule(steps=steps, batch=batch, lr=lr, modes=modes)
    chosen = choose(device, plan or {})
    chosen.take_effect()
    task = detection.open_task(data, image_size, how, chosen, test_share=test_share)
    only = places[0] if len(places) == 1 else None
    usual = only / "detection" if only and only.is_dir() else Path("runs") / f"detection-{task.name}"
    out = here(out) if out else usual
    detection.detect(task, encoders, list(modes), out)
    return out


@door
def prune(
    folder: str | os.PathLike,
    data: str | os.PathLike | Data = catalog.USUAL_DATA,
    out: str | os.PathLike | None = None,
    *,
    keep: float = 0.5,
    epochs: int | None = None,
    lr: float | None = None,
    images: int = 1000,
    seed: int = 0,
    pool: str | os.PathLike | None = None,
    data_folder: str | os.PathLike | None = None,
    limit: int | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    probes: Sequence[str] = ("linear", "knn"),
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
    country: str = "USA",
) -> Path:
    """Drop channels of a run's last encoder by ThiNet, and let the technique that trained it recover; returns a run's
    folder, whose encoder 0 is the pruned one.

    `keep`: the share of channels that every convolution which may lose some has left. `images` without labels choose
    them. Recovery takes `epochs` (a tenth of the run's) at the rate `lr` (a tenth of the run's). Where there are
    labels, both encoders and the one before are judged by `probes`. Raises LilliputError before any work.
    """
    out = here(out or f"{os.fspath(folder).rstrip('/')}-thin")
    folder = here(folder)
    record, chosen = _opened_run(folder, device, plan)
    pruning = Pruning(keep, images, seed, epochs, lr)
    source = Source(data, pool, data_folder, record["image_size"], limit, test_share, labels)
    opened = source.open(judging=True)
    judged = opened.train is not None and opened.test is not None
    if judged:  # the encoder before, first: what cannot be judged is refused before any work
        probe(folder, opened, probes=probes, at=[max(saved_encoders(folder), default=0)], device=device, plan=plan)
    prune_run(folder, opened, out, pruning, chosen, country)
    if judged:
        probe(out, opened, probes=probes, device=device, plan=plan)
    return out


@door
def verify(
    folder: str | os.PathLike,
    data: str | os.PathLike | Data | None = None,
    *,
    data_folder: str | os.PathLike | None = None,
    sample: int = 6,
    seed: int = 0,
    again: int = 0,
    pool: str | os.PathLike | None = None,
    balance: str | None = None,
    out: str | os.PathLike | None = None,
    workers: int | None = 1,
) -> bool:
    """Whether the files of a run or study are what was written, and a sample of its rows comes out the same again.

    `data`: the labelled data that judged it, where it does not lie prepared on this machine any more. `again`: instead
    of rows, train and judge so many cells of a study once more, in the study's folder `out`; they hold within their
    95 % intervals. `pool`, `balance`: what its images were, as in `study`. `workers`: cells at once.
    """
    from lilliput.studies.verification import verify

    folder = here(folder)
    if again:
        return _again(folder, Source(data or "", pool, data_folder, balance=balance), out, workers, again, seed)
    judging = None
    if data is not None:
        read = read_study if (folder / "study.json").exists() else read_run
        judging = _labelled(data, read(folder)["image_size"], data_folder)
    return verify(folder, sample=sample, seed=seed, judging=judging)


def _again(
    folder: Path, source: Source, out: str | os.PathLike | None, workers: int | None, count: int, seed: int
) -> bool:
    """As `verify` with `again`: says each cell's command, and prints how it came out."""
    from lilliput.api.learning import opened
    from lilliput.studies.again import asked_for, run_again

    record = read_study(folder)
    source = dataclasses.replace(
        source,
        data=source.data or asked_for(record["judge"]),
        image_size=record["image_size"],
        limit=record["pool_images"],
    )
    data, judged = opened(source, None, None)
    engine = engine_of(None, workers=workers)
    out = here(out or Path("runs") / f"again-{folder.resolve().name}")
    found = run_again(folder, data, judged, out, count=count, seed=seed, engine=engine)
    for cell in found:
        print(cell, flush=True)
    held = sum(cell.holds for cell in found)
    print(f"{held} of {len(found)} hold; all of it is in {out}")
    return held == len(found)


@door
def report(
    folder: str | os.PathLike,
    data: str | os.PathLike | Data | None = None,
    *,
    data_folder: str | os.PathLike | None = None,
    workers: int | None = 1,
) -> list[Path]:
    """Table, curves and figures of a study, and its report.html (extra `report`); returns the files.

    `data`: the labelled data that judged the study, where it does not lie prepared on this machine any more. `workers`:
    so many encoders are inspected at once, in processes; None for what suits the machine.
    """
    from lilliput.reports.material import open_material
    from lilliput.reports.page.page import write_report
    from lilliput.reports.tables import write_tables

    folder = here(folder)
    material = open_material(folder)
    paths = write_tables(material)
    if not (folder / "study.json").exists():
        return paths
    judging = None
    if data is not None:
        judging = _labelled(data, read_study(folder)["image_size"], data_folder)
    return [write_report(material, judging, workers=workers or processes.usual_size(None)), *paths]


@door
def show(folder: str | os.PathLike) -> Any:
    """A study's table and figures, or a run's log, as an object that a notebook shows: `table` and `rows` are frames,
    `pictures` figures by name."""
    from lilliput.reports.shown import shown

    return shown(Path(folder).expanduser())


def _labelled(data: str | os.PathLike | Data, size: int, folder: str | os.PathLike | None) -> tuple[Images, Images]:
    return Source(data, folder=folder, image_size=size, limit=2).open(judging=True).judging
