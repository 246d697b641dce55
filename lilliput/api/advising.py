"""Advice: which technique, which network and when to stop, within a budget of time."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.api.learning import make_cells, opened, place
from lilliput.data.store import Data
from lilliput.datasets import Source
from lilliput.errors import BadData, BadSetting
from lilliput.studies.engines import Engine
from lilliput.system.door import door
from lilliput.system.mirror import here
from lilliput.system.progress import duration, say
from lilliput.system.records import read_json, write_json
from lilliput.system.resources import Resources
from lilliput.training.cell import Cell, plan_for, usual_recipe
from lilliput.training.record import read_log, same_settings


@door
def advise(
    data: str | os.PathLike | Data,
    out: str | os.PathLike | None = None,
    *,
    budget: str | float = "2h",
    judge: str | os.PathLike | None = None,
    techniques: Sequence[str] = catalog.TECHNIQUES,
    backbones: Sequence[str] = catalog.BACKBONES,
    max_macs: float | None = None,
    max_latency_ms: float | None = None,
    max_mib: float | None = None,
    score: str | None = None,
    recipe: str | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    seed: int = 0,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
    country: str = "USA",
    workers: int | None = 1,
    on: str | Engine | None = None,
    imagenet_weights: str | os.PathLike | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Search techniques x backbones by successive halving for as long as the `budget` says, and answer what to pick.

    `budget`: 45m, 2h, or seconds. `judge`: labelled images, a tenth of whose training part chooses; without any `score`
    does. `max_macs`, `max_latency_ms`, `max_mib`: of the network in use. The trials are cells of an ordinary study in
    `out`, which goes on there when called again. The others as in `study`. Returns the folder, and the answer as
    advice.json has it. Raises LilliputError before any work.
    """
    from lilliput.advice import scores
    from lilliput.advice.answer import advice
    from lilliput.advice.budget import seconds_of
    from lilliput.advice.candidates import Limits

    began, seconds = time.time(), seconds_of(budget)
    limits = Limits(max_macs, max_latency_ms, max_mib)
    scores.usual_score(True, score)
    make: dict[str, Any] = {"recipe": recipe or "small", "epochs": None, "batch": None, "options": {}}
    _refuse_taught(techniques)
    make_cells(techniques, backbones, [seed], **make)  # what can be refused is refused before the images are opened
    engine, resources = place(on, workers, Resources(device, plan or {}, country))
    images, judged, is_labelled = _images(Source(data, None, None, image_size, limit, test_share, labels), judge)
    score = scores.usual_score(is_labelled, score)
    make |= {"recipe": recipe or usual_recipe(images), "data": images}
    asked = _Asked(list(techniques), list(backbones), seed, make, images, judged, is_labelled, score, limits, seconds)
    out = here(out or f"runs/advice-{images.name}")
    with engine.opened():
        search = _prepared(asked, out, engine, resources, began, imagenet_weights)
        _run(search, out)
    from lilliput.reports.tables import report

    report(out)
    found = advice(search)
    write_json(out / "advice.json", found)
    return out, found


def _refuse_taught(techniques: Sequence[str]) -> None:
    if taught := [name for name in techniques if catalog.technique(catalog.take("techniques", name)).taught]:
        raise BadSetting(
            f"{taught[0]} learns from a teacher, and a search has none: leave it out of --techniques; "
            f"`lilliput study --distil-from best` has every network learn from the best one"
        )


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What is to be searched, by what, and for how long."""

    techniques: list[str]
    backbones: list[str]
    seed: int
    make: dict[str, Any]  # arguments of make_cells
    images: Data
    judged: Data
    is_labelled: bool
    score: str
    limits: Any
    budget: float  # seconds

    def cells(self, epochs: int | None = None) -> list[Cell]:
        """Of the recipe's own length, or of so many epochs: with the networks whose limits and paces are known."""
        usual = make_cells(self.techniques, self.backbones, [self.seed], **self.make)
        if epochs is None:
            return usual
        cells = make_cells(self.techniques, self.backbones, [self.seed], **{**self.make, "epochs": epochs})
        pairs = zip(cells, usual, strict=True)
        return [dataclasses.replace(cell, backbone_options=one.backbone_options) for cell, one in pairs]

    def settings(self) -> dict[str, Any]:
        """What search.json keeps, and must be the same when a search goes on."""
        return {
            **{name: getattr(self, name) for name in ("techniques", "backbones", "seed", "score", "budget")},
            "limits": dataclasses.asdict(self.limits),
            "recipe": self.make["recipe"],
            "digests": [part.digest for part in (self.images.pool, *self.judged.judging)],
        }


def _images(source: Source, judge: str | os.PathLike | None) -> tuple[Data, Data, bool]:
    """What is learned from, what judges it, and whether that has labels; else the images judge themselves."""
    try:
        images, judged, *_ = opened(source, judge, None)
        return images, judged, all(part.is_labelled for part in judged.judging)
    except BadData as error:
        if judge:
            raise
        images = source.open()
        say(f"without labels: {error}")
        return images, Data(images.name, images.pool, images.pool, images.pool), False


def _prepared(
    asked: _Asked, out: Path, engine: Engine, resources: Resources, began: float, weights: str | os.PathLike | None
) -> Any:
    """The search as it was planned here before, or as it is measured now."""
    from lilliput.advice.budget import Pace, Schedule
    from lilliput.advice.halving import Rung
    from lilliput.advice.scores import probes_for
    from lilliput.advice.search import Search
    from lilliput.studies.grid import Grid
    from lilliput.studies.record import open_record

    settings, file = asked.settings(), out / "search.json"
    planned = read_json(file) if file.exists() else None
    if planned:
        planned["settings"].pop("workers", None)  # a search may go on with more or fewer; it was a setting once
        same_settings(planned["settings"], settings, out)
        planned["spent"] = max(planned["spent"], _trained(out) / engine.workers)  # it may have been killed
        say(f"{out} goes on: {duration(planned['spent'])} of {duration(asked.budget)} are spent")
    else:
        planned = {"settings": settings, "over": False, "spent": 0.0, **_measured(asked, engine, resources, began)}
    schedule = Schedule(planned["every"], [Rung(*rung) for rung in planned["rungs"]], planned["seconds"])
    cells = [cell for cell in asked.cells(schedule.epochs) if cell.name in planned["paces"]]
    probes = probes_for(asked.score, asked.is_labelled)
    grid = Grid(cells, asked.images, asked.judged, probes, schedule.every, resources, None, (), weights)
    open_record(grid, out)
    write_json(file, planned)
    paces = {name: Pace(*pace) for name, pace in planned["paces"].items()}
    timing = {"began": began - planned["spent"], "budget": asked.budget, "afterwards": planned["afterwards"]}
    return Search(grid, out, engine, schedule, paces, asked.score, **timing)


def _trained(out: Path) -> float:
    """Seconds of training that the logs of the search's cells know of."""
    logs = [read_log(run) for run in (out / "cells").iterdir()]
    return sum(log[-1].get("total_seconds", 0.0) for log in logs if log)


def _measured(asked: _Asked, engine: Engine, resources: Resources, began: float) -> dict[str, Any]:
    """What can be tried, how quick it is, and the search that fits the budget; said before it begins."""
    import torch

    from lilliput.advice.budget import PLANNED, paces
    from lilliput.advice.candidates import within
    from lilliput.advice.learned import learned
    from lilliput.advice.scores import ELSEWHERE, probes_for, standing
    from lilliput.studies.judge import Judge
    from lilliput.system.machine import cores
    from lilliput.system.plan import own_threads

    size = asked.images.pool.image_size
    with own_threads():
        if engine.is_here and engine.workers > 1:
            torch.set_num_threads(max(1, cores() // engine.workers))
        cells, sizes = within(asked.cells(), asked.limits, size, resources.device)
        if asked.score == ELSEWHERE:  # known before any training: the pick and the runner-up have all the time
            known = learned()["effects"]
            cells = sorted(cells, key=lambda cell: -standing(cell.technique, cell.backbone, known))[:2]
        firsts = {cell.backbone: cell for cell in cells}
        plans = {name: plan_for(cell, size, resources) for name, cell in firsts.items()}
        probes, images = probes_for(asked.score, asked.is_labelled), asked.judged.judging
        judges = {name: Judge(asked.judged.name, *images, probes, plan=plan) for name, plan in plans.items()}
        pace = paces(cells, asked.images, plans, judges, country=resources.country)
    left = PLANNED * (asked.budget - (time.time() - began))
    schedule, pace, afterwards = _fitting(asked, cells, pace, left, engine.workers)
    for rung in schedule.rungs:
        say(f"will try: {rung.candidates} candidates up to epoch {rung.epoch}")
    say(f"{duration(schedule.seconds)} by what was measured, of a budget of {duration(asked.budget)}; by {asked.score}")
    return {
        "every": schedule.every,
        "rungs": schedule.rungs,
        "seconds": schedule.seconds,
        "paces": pace,
        "afterwards": afterwards,
        "sizes": {name: dataclasses.asdict(one) for name, one in sizes.items()},
    }


def _fitting(
    asked: _Asked, cells: list[Cell], paces: dict[str, Any], seconds: float, workers: int
) -> tuple[Any, dict[str, Any], float]:
    """The search that fits, the paces of those that it tries, and the seconds of what follows it.

    Where there is no time for all, those that were better in finished studies are tried. BadSetting where there is none
    for two.
    """
    from lilliput.advice.budget import fitting
    from lilliput.advice.learned import learned
    from lilliput.advice.scores import standing

    known, refused = learned()["effects"], None
    ranked = sorted(cells, key=lambda cell: -standing(cell.technique, cell.backbone, known))
    for tried in range(len(ranked), min(2, len(ranked)) - 1, -1):
        kept = {cell.name: paces[cell.name] for cell in ranked[:tried]}
        quickest: dict[str, float] = {}  # of each backbone
        for cell in ranked[:tried]:
            quickest[cell.backbone] = min(paces[cell.name].epoch, quickest.get(cell.backbone, float("inf")))
        supervised = max(quickest.values()) if asked.is_labelled else 0.0
        judging = 4 * max(one.judging for one in kept.values())
        try:
            schedule = fitting(kept, seconds - judging, workers=workers, afterwards=supervised)
        except BadSetting as error:
            refused = refused or error
            continue
        if tried < len(ranked):
            names = ", ".join(cell.name for cell in ranked[tried:])
            say(f"no time for all, so those that did better in finished studies are tried; left out: {names}")
        return schedule, kept, supervised * schedule.epochs + judging
    raise refused or BadSetting("there is nothing to try")


def _run(search: Any, out: Path) -> None:
    """The search unless it is over; how long it took is kept, whatever ends it."""
    planned = read_json(out / "search.json")
    if planned["over"]:
        return
    try:
        search.run()
        planned["over"] = True
    finally:
        write_json(out / "search.json", {**planned, "spent": time.time() - search.began})
