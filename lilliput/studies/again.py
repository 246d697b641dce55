"""Cells of a study once more: the command for each, and whether those drawn by chance come out as they did."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.data.store import Data
from lilliput.datasets.folder import FOLDER
from lilliput.errors import BadData, BadSetting
from lilliput.studies import results
from lilliput.studies.engines import Engine
from lilliput.studies.grid import Grid
from lilliput.studies.record import judging_images, open_record, read_study
from lilliput.studies.results import CELL
from lilliput.studies.statistics import accuracies, counted_at, select
from lilliput.studies.study import study
from lilliput.system.plan import KINDS, like
from lilliput.system.progress import say
from lilliput.system.records import write_json
from lilliput.system.resources import Resources
from lilliput.training.cell import Cell, make_cell, recipe_of
from lilliput.training.record import renewed
from lilliput.training.stopping import Stopping


class Again(NamedTuple):
    """The accuracy of a cell as it was, and as it came out once more."""

    cell: Cell
    before: float
    after: float | None  # it failed
    half: float  # of the cell's 95 % interval
    is_same: bool  # all values of all checkpoints, to the bit

    @property
    def holds(self) -> bool:
        return self.after is not None and abs(self.after - self.before) <= self.half

    def __str__(self) -> str:
        name = f"{self.cell.technique} on {self.cell.backbone}, seed {self.cell.seed}"
        if self.after is None:
            return f"{name}: {self.before:.4f}; once more it failed"
        found = "all values the same" if self.is_same else f"{abs(self.after - self.before):.4f} apart"
        side = "within" if self.holds else "BEYOND"
        return f"{name}: {self.before:.4f}, once more {self.after:.4f}: {found}, {side} ± {self.half:.4f}"


def run_again(
    folder: Path, opened: Data, judged: Data, out: Path, *, count: int, seed: int = 0, engine: Engine
) -> list[Again]:
    """So many trained cells of the study in `folder`, drawn by chance, trained and judged once more in `out`.

    `out` becomes an ordinary study's folder: what is there already is not done again. BadData where the images are not
    those of the study, BadSetting where its cells began with weights that it only names.
    """
    record = read_study(folder)
    rows = results.read(folder)
    rows = rows[rows.judge == record["judge"]]
    if opened.pool.digest != record["data_digest"]:
        raise BadData(
            f"these are not the images that {folder} learned from: their digests differ; name them by --data and --pool"
        )
    train, test = judging_images(record, judged.judging)
    cells = [cell_of(record, *names) for names in _drawn(rows, count, seed)]
    for cell in cells:
        say(command_of(record, cell))
    grid = Grid(
        cells,
        opened,
        judged._replace(train=train, test=test),
        {"linear": record.get("probe_options", {}).get("linear", {})},
        record["every"],
        Resources(country=record.get("country") or "USA"),
        Stopping(**record["until_converged"]) if record.get("until_converged") else None,
        baselines=(),
    )
    begun = open_record(grid, out)
    plans = {name: like(plan, names=KINDS).as_dict() for name, plan in record["plans"].items()}
    write_json(out / "study.json", {**begun, "plans": {**plans, **begun["plans"]}})
    study(grid, out, engine=engine)
    return _compared(cells, rows, results.read(out), record["test_images"])


def _drawn(rows: pd.DataFrame, count: int, seed: int) -> Sequence[tuple[str, str, int]]:
    trained = rows[~rows.technique.isin(BASELINES) & (rows.epoch > 0)]
    names = sorted(trained.groupby(CELL).groups)
    if not names:
        raise BadData("the study has no trained cells yet")
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return [(names[place][0], names[place][1], int(names[place][2])) for place in chosen]


def _compared(cells: list[Cell], before: pd.DataFrame, after: pd.DataFrame, test_images: int) -> list[Again]:
    was, now = (counted_at(select(rows)).set_index(CELL).value for rows in (before, after))
    groups = dict(list(was.groupby(level=CELL[:2])))
    means = dict(zip(groups, accuracies(list(groups.values()), test_images), strict=True))
    found = []
    for cell in cells:
        kind, key = (cell.technique, cell.backbone), (cell.technique, cell.backbone, cell.seed)
        value = now.get(key)
        is_same = _values(before, key).equals(_values(after, key))
        half = means[kind].half or 0.0
        found.append(Again(cell, float(was[key]), None if value is None else float(value), half, is_same))
    return found


def _values(rows: pd.DataFrame, key: tuple[str, str, int]) -> pd.Series:
    """Of the linear probe, by checkpoint and metric."""
    own = rows[(rows[CELL] == list(key)).all(axis=1) & (rows.probe == "linear")]
    return own.set_index(["epoch", "metric"]).value.sort_index()


def cell_of(record: dict[str, Any], technique: str, backbone: str, seed: int) -> Cell:
    """A cell of the study with that record; BadSetting where it began with weights."""
    if record.get("init") or "teacher" in record["options"][technique]:
        raise BadSetting(
            f"{technique} on {backbone} began with weights that the study only names: run its own command again"
        )
    options = {**record["options"][technique], **record["backbone_options"].get(backbone, {})}
    cell = make_cell(technique, backbone, seed=seed, recipe=record["recipe"], options=options)
    settings = renewed(record["recipes"][technique], record["format"])
    return dataclasses.replace(cell, recipe=recipe_of(technique, record["recipe"]).replace(**settings))


def asked_for(name: str) -> str:
    """The word after --data for what a record names: a folder ends in a slash, as a data set may have its name."""
    return f"{name.removeprefix(FOLDER)}/" if name.startswith(FOLDER) else name


def command_of(record: dict[str, Any], cell: Cell) -> str:
    """What trains and judges it once more, for a shell in which the data are at hand under their names."""
    judge, data = (asked_for(record[name]) for name in ("judge", "data"))
    usual = make_cell(
        cell.technique, cell.backbone, recipe=record["recipe"], epochs=cell.recipe.epochs, batch=cell.recipe.batch
    )
    words = ["lilliput", "study", "--data", judge, *(["--pool", data] if data != judge else [])]
    for flag, value in {
        "image-size": record["image_size"],
        "limit": record["pool_images"],
        "techniques": cell.technique,
        "backbones": cell.backbone,
        "seeds": cell.seed,
        "recipe": record["recipe"],
        "epochs": cell.recipe.epochs,
        "every": record["every"],
        "batch": cell.recipe.batch,
        **_unusual(cell, usual),
    }.items():
        words += [f"--{flag.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    plan = record.get("plans", {}).get(cell.backbone, {})
    kept = {name: plan[name] for name in ("precision", "channels_last", "threads") if plan.get(name) is not None}
    words += ["--plan", *(f"{name}={str(value).lower()}" for name, value in kept.items())] if kept else []
    return shlex.join([*words, "--baselines", "--out", f"runs/{cell.name}"])


def _unusual(cell: Cell, usual: Cell) -> dict[str, Any]:
    """Options of the technique, backbone and recipe that the command has to say."""
    said: dict[str, Any] = {}
    for theirs, ours in (
        (cell.technique_options, usual.technique_options),
        (cell.backbone_options, usual.backbone_options),
        (_plain(cell.recipe), _plain(usual.recipe)),
    ):
        said |= {name: value for name, value in theirs.items() if ours.get(name) != value}
    return said


def _plain(recipe: Any) -> dict[str, Any]:
    """A recipe's settings of one value each, of the network with normalisation."""
    settings = dataclasses.asdict(recipe)
    return {name: value for name, value in settings.items() if not isinstance(value, dict | list | tuple)}
