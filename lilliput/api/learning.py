"""Pretraining one network, and studies of many."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lilliput import catalog, tracking
from lilliput.data.store import Data
from lilliput.datasets import Source, without_leaks
from lilliput.errors import BadSetting
from lilliput.studies.engines import Engine, engine_of
from lilliput.system import distributed
from lilliput.system.door import door
from lilliput.system.mirror import here, refresh
from lilliput.system.progress import say
from lilliput.system.resources import Resources
from lilliput.training import run
from lilliput.training.cell import Cell, make_cell, recipe_of, usual_recipe
from lilliput.training.encoders import init_of
from lilliput.training.stopping import stopping_rule
from lilliput.training.teacher import teacher_of

# What a study of images that come with the package takes when nothing is said: the whole grid in minutes on a laptop.
EMBEDDED, BRIEF = ("scenes", "photographs"), (32, 320, 10, 32)  # image size, limit, epochs, batch
SECOND = "distil"  # the technique of a study's second round


@door
@distributed.joined()
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
    cache_gib: float | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    every: int = 5,
    seed: int = 0,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
    country: str = "USA",
    track: str | Sequence[str] | None = None,
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
    encoder, a run's folder, or the name of a backbone, whose ImageNet weights then count. `balance`, `cache_gib`: as in
    `open_data`. `track`: trackers of experiments that follow the log (docs/home.md). In a script that torchrun started,
    all its processes train one run together. Raises LilliputError
    (UnknownName, BadSetting, BadData) before any work.
    """
    technique, backbone = catalog.take("techniques", technique), catalog.take("backbones", backbone)
    catalog.sort_options(options, techniques=[technique], backbones=[backbone], others=_parameters(pretrain))
    wanted = partial(make_cell, technique, backbone, seed=seed, epochs=epochs, batch=batch, options=options)
    wanted = partial(wanted, teacher=teacher_of(teacher, imagenet_weights) if teacher else None)
    wanted(recipe=recipe or "small")  # what can be refused is refused before the images are opened
    start = init_of(init, backbone, imagenet_weights) if init else None
    resources = Resources(device, plan or {}, country, track=_trackers(track)).checked()
    opened = Source(data, pool, folder, image_size, limit, test_share, labels, balance, cache_gib).open()
    cell = wanted(recipe=recipe or usual_recipe(opened), init=start, data=opened)
    stopping = stopping_rule(opened, until_converged, score)
    out = here(out or Path("runs") / f"{cell.name}-{opened.name}")
    return run.pretrain(cell, opened, out, every=every, resources=resources, stopping=stopping)


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
    cache_gib: float | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    every: int = 5,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
    country: str = "USA",
    track: str | Sequence[str] | None = None,
    until_converged: int | None = None,
    score: str | None = None,
    workers: int | None = 1,
    leave_out: str | None = None,
    baselines: Sequence[str] = catalog.USUAL_BASELINES,
    init: str | os.PathLike | None = None,
    teacher: str | os.PathLike | None = None,
    imagenet_weights: str | os.PathLike | None = None,
    distil_from: str | None = None,
    on: str | Engine | None = None,
    **options: Any,
) -> tuple[Path, list[str]]:
    """The grid of techniques x backbones x seeds, judged, with baselines and a report; does only what is missing.

    Epochs, batch, image size and data are the same for all cells (but under the recipe `paper`); an option goes to all
    that take it. On embedded data the whole takes minutes. `workers`: cells at once; None: what suits here. `on`:
    another place (docs/scale.md). `judge`: the first is the study's own. `leave_out` ("exact", "near"): no test images
    that are learned from. `distil_from`: who teaches a second round, or "best". Returns the folder and failed cells.
    """
    from lilliput.studies.grid import Grid

    image_size, limit, epochs, batch = _usual(data, pool, image_size, limit, epochs, batch)
    judges = _judges(probes, distil_from)
    wanted = partial(make_cells, backbones=backbones, seeds=seeds, epochs=epochs, batch=batch, options=options)
    wanted = partial(wanted, init=init, weights=imagenet_weights, second=[SECOND] if distil_from else [])
    first = partial(wanted, techniques, teacher=teacher)
    first(recipe=recipe or "small")  # what can be refused is refused before the images are opened
    engine, resources = place(on, workers, Resources(device, plan or {}, country, track=_trackers(track)))
    source = Source(data, pool, folder, image_size, limit, test_share, labels, balance, cache_gib)
    images, judged, *others = opened(source, judge, leave_out)
    recipe = recipe or usual_recipe(images)
    stop, cells = stopping_rule(images, until_converged, score), first(recipe=recipe, data=images)
    grid = Grid(cells, images, judged, judges, every, resources, stop, tuple(baselines), imagenet_weights)
    out, second = here(out or f"runs/study-{images.name}"), partial(wanted, [SECOND], recipe=recipe, data=images)
    return out, _run_rounds(grid, out, {"engine": engine, "further": others}, second, distil_from)


def _trackers(track: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of trackers; BadSetting where one's library is not installed."""
    names = (track,) if isinstance(track, str) else tuple(dict.fromkeys(track or ()))
    tracking.check(names)
    return names


def place(on: str | Engine | None, workers: int | None, resources: Resources) -> tuple[Engine, Resources]:
    """Where the cells run, and what each may use, which is refused if this machine is the place and has it not."""
    engine = engine_of(on, workers=workers, device=resources.device)
    return engine, resources.checked() if engine.is_here else resources


def _run_rounds(
    grid: Any, out: Path, crew: dict[str, Any], second: Callable[..., list[Cell]], distil_from: str | None
) -> list[str]:
    """The grid's cells, then those of a second round by the teacher among them, and the report; which cells failed."""
    from lilliput.reports.tables import report
    from lilliput.studies.results import teacher_among
    from lilliput.studies.study import study as run_grid

    with crew["engine"].opened():
        failed = run_grid(grid, out, **crew)
        if distil_from:
            taught = dataclasses.replace(grid, cells=second(teacher=teacher_among(out, distil_from)))
            failed += run_grid(taught, out, **crew)
    refresh(out)
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


def opened(
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
