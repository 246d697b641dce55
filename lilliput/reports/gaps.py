"""Cells of a study's grid that are missing or incomplete, and why; and the rows that may be averaged.

What it reads of run folders may be absent or torn anywhere.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports.material import Material
from lilliput.studies.results import CELL
from lilliput.studies.statistics import finished
from lilliput.training.cell import cell_name


class Gap(NamedTuple):
    """A cell of the grid that is missing or incomplete, and why."""

    technique: str
    backbone: str
    seed: int | None
    reason: str

    def __str__(self) -> str:
        name = f"{self.technique} × {self.backbone}" if self.backbone else self.technique
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{name}{seed}: {self.reason}"


def comparable(material: Material, rows: pd.DataFrame) -> pd.DataFrame:
    """Without crashed seeds: those behind the furthest of their cell, unless they ended by themselves."""
    furthest = finished(rows)
    if not material.settings.get("until_converged"):
        return furthest
    reached = rows.groupby(CELL).epoch.max()
    ended = [cell for cell, epoch in reached.items() if _converged(material.run(*cell), epoch)]
    keys = pd.MultiIndex.from_frame(rows[CELL])
    return rows[keys.isin(ended) | rows.index.isin(furthest.index)]


def find_gaps(material: Material, rows: pd.DataFrame, techniques: list[str], backbones: list[str]) -> list[Gap]:
    """Of the grid of these names, by rows of one judge; then the failed runs that are not of the grid."""
    checkpoints = rows[(rows.probe == "linear") & (rows.metric == "accuracy") & (rows.epoch > 0)]
    reached = checkpoints.groupby(CELL).epoch.max().to_dict()
    seeds = _seeds(material, checkpoints)
    cells = [(technique, backbone, seed) for technique in techniques for backbone in backbones for seed in seeds]
    gaps = [gap for cell in cells if (gap := _gap(material, cell, reached))]
    in_grid = {cell_name(*cell) for cell in cells}
    for error in sorted((material.folder / "cells").glob("*/error.txt")):
        if error.parent.name not in in_grid:
            gaps.append(Gap(error.parent.name, "", None, f"failed: {_first_line(error)}"))
    return gaps


def _seeds(material: Material, checkpoints: pd.DataFrame) -> list[int]:
    asked = material.settings.get("seeds")
    whole = [seed for seed in asked if isinstance(seed, int)] if isinstance(asked, list) else []
    judged = sorted(checkpoints.seed[~checkpoints.technique.isin(BASELINES)].unique())
    return list(dict.fromkeys(map(int, whole or judged or [0])))


def _gap(material: Material, cell: tuple[str, str, int], reached: dict[Any, int]) -> Gap | None:
    """None where the cell is complete: judged up to its last checkpoint, or ended by itself."""
    run, epoch = material.run(*cell), reached.get(cell)
    furthest = max((others for (*names, _), others in reached.items() if tuple(names) == cell[:2]), default=0)
    target = material.of_recipe(cell[0], "epochs") or material.whole("epochs") or furthest
    every = material.whole("every") or 1  # the last checkpoint need not fall on the last epoch
    if (epoch and epoch > target - every) or _converged(run, epoch):
        return None
    return Gap(*cell, _reason(run, epoch, target))


def _converged(run: Path, reached: int | None) -> bool:
    """Whether the run ended by itself, and was judged to its end."""
    last = _last_row(run / "log.jsonl")
    return "stopped" in last and last.get("epoch") == reached


def _reason(run: Path, reached: int | None, target: int) -> str:
    measured = f"measured up to epoch {reached} of {target}" if reached else ""
    if error := _first_line(run / "error.txt"):
        return f"failed: {error}; {measured}" if measured else f"failed: {error}"
    if measured:
        return measured
    trained = _last_row(run / "log.jsonl").get("epoch")
    return f"pretrained up to epoch {trained}, not judged" if isinstance(trained, int) and trained else "not run"


def _first_line(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(500).strip() or "no reason given"


def _last_row(log: Path) -> dict[str, Any]:
    """Of a run's log; {} where there is none, and a line that a killed run cut off is left out."""
    for line in reversed(log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        return row if isinstance(row, dict) else {}
    return {}
