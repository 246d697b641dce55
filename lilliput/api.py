"""The main jobs as functions, for the command line and for Python alike."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.data.store import Data, Images
from lilliput.datasets import Source, without_leaks
from lilliput.errors import BadData, BadSetting
from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.record import read_study
from lilliput.system.door import door
from lilliput.system.plan import Plan, choose
from lilliput.system.progress import say
from lilliput.system.resources import Resources
from lilliput.system.visible import visible
from lilliput.training import run
from lilliput.training.cell import Cell, make_cell, recipe_of, usual_recipe
from lilliput.training.encoders import init_of, saved_encoders
from lilliput.training.prune import Pruning
from lilliput.training.prune import prune as prune_run
from lilliput.training.record import read_run
from lilliput.training.stopping import stopping_rule
from lilliput.training.teacher import teacher_of

# What a study of images that come with the package takes when nothing is said: the whole grid in minutes on a laptop.
SECOND = "distil"  # the technique of a study's second round
EMBEDDED, BRIEF = ("scenes", "photographs"), (32, 320, 10, 32)  # image size, limit, epochs, batch


@door
def pretrain(
    technique: str,
    backbone: str,
    data: str | os.PathLike | Data = catalog.USUAL_DATA,
    out: str | os.PathLike | None = None,
    *,
    pool: str | os.PathLike | None = None,
    folder: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    balance: str | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    every: int = 5,
    seed: int = 0,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
    country: str = "USA",
    until_converged: int | None = None,
    score: str | None = None,
    init: str | os.PathLike | None = None,
    teacher: str | os.PathLike | None = None,
    imagenet_weights: str | os.PathLike | None = None,
    **options: Any,
) -> Path:
    """Pretrain one backbone by one technique, or go on with an interrupted run; returns the run's folder.

    Technique, backbone and data are names, or paths of files of your own (docs/own.md); data may be a folder of images.
    `options`: any of the technique, the backbone or the recipe, by name. `plan`: what is fixed by hand of precision,
    channels_last, threads and compile; the rest is measured. Encoders are saved every `every` epochs; `load_encoder`
    reads them. `init`: what to start from instead of random weights: a file of them, a run's folder, or "imagenet"
    (from the folder `imagenet_weights`, the library's cache, or fetched). `teacher`: what `distil` learns from: a saved
    encoder, a run's folder, or the name of a backbone, whose ImageNet weights then count. `balance`: images of each
    class, as in `open_data`. Raises LilliputError (UnknownName, BadSetting, BadData) before any work.
    """
    technique, backbone = catalog.take("techniques", technique), catalog.take("backbones", backbone)
    catalog.sort_options(options, techniques=[technique], backbones=[backbone], others=_parameters(pretrain))
    wanted = partial(make_cell, technique, backbone, seed=seed, epochs=epochs, batch=batch, options=options)
    wanted = partial(wanted, teacher=teacher_of(teacher, imagenet_weights) if teacher else None)
    wanted(recipe=recipe or "small")  # what can be refused is refused before the images are opened
    start = init_of(init, backbone, imagenet_weights) if init else None
    resources = Resources(device, plan or {}, country).checked()
    opened = Source(data, pool, folder, image_size, limit, test_share, labels, balance).open()
    cell = wanted(recipe=recipe or usual_recipe(opened), init=start, data=opened)
    stopping = stopping_rule(opened, until_converged, score)
    out = Path(out or Path("runs") / f"{cell.name}-{opened.name}")
    return run.pretrain(cell, opened, out, every=every, resources=resources, stopping=stopping)


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

    folder = Path(folder)
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
    begun = {key: record["plan"][key] for key in ("precision", "channels_last")}
    return record, choose(device or record["plan"]["device"], {**begun, **(plan or {})})


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

    folder = Path(folder)
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
    folder = Path(folder)
    record, chosen = _opened_run(folder, device, plan)
    pruning = Pruning(keep, images, seed, epochs, lr)
    source = Source(data, pool, data_folder, record["image_size"], limit, test_share, labels)
    opened = source.open(judging=True)
    judged = opened.train is not None and opened.test is not None
    if judged:  # the encoder before, first: what cannot be judged is refused before any work
        probe(folder, opened, probes=probes, at=[max(saved_encoders(folder), default=0)], device=device, plan=plan)
    out = Path(out or folder.with_name(f"{folder.name}-thin"))
    prune_run(folder, opened, out, pruning, chosen, country)
    if judged:
        probe(out, opened, probes=probes, device=device, plan=plan)
    return out


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
    places = [os.path.expanduser(place) for place in ([saved] if isinstance(saved, str | os.PathLike) else saved)]
    encoders = candidates(places, baselines, imagenet_weights)
    how = detection.schedule(steps=steps, batch=batch, lr=lr, modes=modes)
    chosen = choose(device, plan or {})
    chosen.take_effect()
    task = detection.open_task(data, image_size, how, chosen, test_share=test_share)
    only = Path(places[0]) if len(places) == 1 else None
    usual = only / "detection" if only and only.is_dir() else Path("runs") / f"detection-{task.name}"
    out = Path(out) if out else usual
    detection.detect(task, encoders, list(modes), out)
    return out


@door
def study(
    data: str | os.PathLike | Data = catalog.USUAL_DATA,
    out: str | os.PathLike | None = None,
    *,
    pool: str | os.PathLike | None = None,
    folder: str | os.PathLike | None = None,
    judge: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    techniques: Sequence[str] = catalog.TECHNIQUES,
    backbones: Sequence[str] = catalog.BACKBONES,
    seeds: Sequence[int] = (0,),
    probes: Sequence[str] = ("linear", "knn"),
    image_size: int | None = None,
    limit: int | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    balance: str | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    every: int = 5,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
    country: str = "USA",
    until_converged: int | None = None,
    score: str | None = None,
    workers: int | None = 1,
    leave_out: str | None = None,
    baselines: Sequence[str] = catalog.USUAL_BASELINES,
    init: str | os.PathLike | None = None,
    teacher: str | os.PathLike | None = None,
    imagenet_weights: str | os.PathLike | None = None,
    distil_from: str | None = None,
    **options: Any,
) -> tuple[Path, list[str]]:
    """The grid of techniques x backbones x seeds, judged, with baselines and a report; does only what is missing.

    Epochs, batch, image size and data are the same for all cells (but under the recipe `paper`); an option goes to all
    that take it. On embedded data, what is not given is chosen so that the whole takes minutes. `workers`: cells at
    once; None for what suits the machine. `judge`: of several, the first is the study's own. `leave_out` ("exact",
    "near"): without test images that are learned from. `distil_from`: the cell that teaches a second round, or "best".
    The others are those of `pretrain`. Returns the study's folder and the names of the cells that failed.
    """
    from lilliput.studies.grid import Grid

    image_size, limit, epochs, batch = _usual(data, pool, image_size, limit, epochs, batch)
    judges = _judges(probes, distil_from)
    wanted = partial(make_cells, backbones=backbones, seeds=seeds, epochs=epochs, batch=batch, options=options)
    wanted = partial(wanted, init=init, weights=imagenet_weights, second=[SECOND] if distil_from else [])
    first = partial(wanted, techniques, teacher=teacher)
    first(recipe=recipe or "small")  # what can be refused is refused before the images are opened
    resources = Resources(device, plan or {}, country).checked()
    source = Source(data, pool, folder, image_size, limit, test_share, labels, balance)
    opened, judged, *others = _opened(source, judge, leave_out)
    recipe = recipe or usual_recipe(opened)
    stop, cells = stopping_rule(opened, until_converged, score), first(recipe=recipe, data=opened)
    grid = Grid(cells, opened, judged, judges, every, resources, stop, tuple(baselines), imagenet_weights)
    out, second = Path(out or f"runs/study-{opened.name}"), partial(wanted, [SECOND], recipe=recipe, data=opened)
    crew = {"workers": workers or processes.usual_size(device), "further": others}
    return out, _run_rounds(grid, out, crew, second, distil_from)


def _run_rounds(
    grid: Any, out: Path, crew: dict[str, Any], second: Callable[..., list[Cell]], distil_from: str | None
) -> list[str]:
    """The grid's cells, then those of a second round by the teacher among them, and the report; which cells failed."""
    from lilliput.reports.tables import report
    from lilliput.studies.results import teacher_among
    from lilliput.studies.study import study as run_grid

    failed = run_grid(grid, out, **crew)
    if distil_from:
        taught = dataclasses.replace(grid, cells=second(teacher=teacher_among(out, distil_from)))
        failed += run_grid(taught, out, **crew)
    report(out)
    return failed


def _judges(probes: Sequence[str], distil_from: str | None) -> dict[str, dict[str, Any]]:
    """Probe -> its options; BadSetting where none can choose a teacher."""
    judges: dict[str, dict[str, Any]] = {catalog.take("probes", name): {} for name in probes}
    if distil_from and "linear" not in judges:
        raise BadSetting(f"--distil-from {distil_from} chooses by the linear probe: add linear to --probes")
    return judges


def _usual(data: Any, pool: Any, *given: int | None) -> Sequence[int | None]:
    """Image size, limit, epochs and batch: as given, and on the embedded data alone the rest as in BRIEF."""
    if data not in EMBEDDED:
        return given
    if pool is None:
        return [value or usual for value, usual in zip(given, BRIEF, strict=True)]
    say(f"the embedded {data} judge what is learned from {pool}; --data names other labelled images")
    return given


def _opened(
    source: Source, judge: str | os.PathLike | Sequence[str | os.PathLike] | None, leave_out: str | None
) -> list[Data]:
    """What a study learns from, what judges it (the same, or of another source, which then has the labels), and what
    else does; what leaks from these is told, or left out of what the first judges."""
    if not judge:
        opened = source.open(judging=True)
        return list(without_leaks(opened, opened, leave_out))
    names = [judge] if isinstance(judge, str | os.PathLike) else judge
    opened = dataclasses.replace(source, test_share=None, labels=None).open()
    first, *others = [Source(name, image_size=opened.pool.image_size, limit=2) for name in names]
    first = dataclasses.replace(first, test_share=source.test_share, labels=source.labels)
    opened, judged = without_leaks(opened, first.open(judging=True), leave_out)
    return [opened, judged, *(without_leaks(opened, other.open(judging=True), None)[1] for other in others)]


@door
def verify(
    folder: str | os.PathLike,
    data: str | os.PathLike | Data | None = None,
    *,
    data_folder: str | os.PathLike | None = None,
    sample: int = 6,
    seed: int = 0,
) -> bool:
    """Whether the files of a run or study are what was written, and a sample of its rows comes out the same again.

    `data`: the labelled data that judged it, where it does not lie prepared on this machine any more.
    """
    from lilliput.studies.verification import verify

    folder = Path(folder)
    judging = None
    if data is not None:
        read = read_study if (folder / "study.json").exists() else read_run
        judging = _labelled(data, read(folder)["image_size"], data_folder)
    return verify(folder, sample=sample, seed=seed, judging=judging)


def _labelled(data: str | os.PathLike | Data, size: int, folder: str | os.PathLike | None) -> tuple[Images, Images]:
    return Source(data, folder=folder, image_size=size, limit=2).open(judging=True).judging


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

    folder = Path(folder)
    material = open_material(folder)
    paths = write_tables(material)
    if not (folder / "study.json").exists():
        return paths
    judging = None
    if data is not None:
        judging = _labelled(data, read_study(folder)["image_size"], data_folder)
    return [write_report(material, judging, workers=workers or processes.usual_size(None)), *paths]


def _parameters(job: Callable) -> list[str]:
    return [name for name in inspect.signature(job).parameters if name != "options"]


def make_cells(
    techniques: Sequence[str],
    backbones: Sequence[str],
    seeds: Sequence[int],
    *,
    recipe: str,
    epochs: int | None,
    batch: int | None,
    options: dict[str, Any],
    init: str | os.PathLike | None = None,
    teacher: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    data: Data | None = None,
    second: Sequence[str] = (),
) -> list[Cell]:
    """The grid's cells, seed by seed and backbone by backbone.

    Each option goes to those that take it; those of the techniques of a `second` round are known too.
    """
    techniques = [catalog.take("techniques", name) for name in techniques]
    backbones = [catalog.take("backbones", name) for name in backbones]
    if not techniques:
        return []
    inits = {name: init_of(init, name, weights) for name in backbones} if init else {}
    taught_by = teacher_of(teacher, weights) if teacher else None
    takers = list(dict.fromkeys([*techniques, *second]))
    dealt = catalog.sort_options(options, techniques=takers, backbones=backbones, others=_parameters(study))
    if recipe != "paper":  # one budget whatever the techniques' own recipes say; the paper's settings come whole
        shared = recipe_of(techniques[0], recipe)
        epochs, batch = epochs or shared.epochs, batch or shared.batch
    return [
        make_cell(
            technique,
            backbone,
            seed=seed,
            recipe=recipe,
            epochs=epochs,
            batch=batch,
            options={**dealt["recipe"], **dealt["techniques"][technique], **dealt["backbones"][backbone]},
            init=inits.get(backbone),
            teacher=taught_by,
            data=data,
        )
        for seed in seeds
        for backbone in backbones
        for technique in techniques
    ]
