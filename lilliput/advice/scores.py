"""By what a candidate is judged before its training ends: by held-out labels, or without any."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lilliput.advice.learned import learned
from lilliput.errors import BadSetting
from lilliput.studies import results
from lilliput.training.cell import Cell
from lilliput.training.record import read_log

LABELS, ELSEWHERE = "labels", "best_elsewhere"
# figures of the probe `geometry`, and the factor that makes each the greater the better
GEOMETRY = {"effective_rank": 1, "alpha_req": -1, "nesum": 1, "sigreg": -1, "uniformity": -1, "alignment": -1}
FREE = {**GEOMETRY, "loss": -1}  # the technique's own on what it trains on, as a share of a guess's
SCORES = (LABELS, *FREE, ELSEWHERE)
HELD_OUT = ("linear", "held_out_accuracy")  # of labelled training images: no test image chooses


def usual_score(labelled: bool, score: str | None) -> str:
    """The score that is asked for; else labels, or what finished studies found to be better than chance without any.

    BadSetting where it cannot be had, or none is known.
    """
    if score is not None and score not in SCORES:
        raise BadSetting(f"score {score!r} is none of {', '.join(SCORES)}")
    if score == LABELS and not labelled:
        raise BadSetting("there are no labels to choose by: give --judge with labelled images, or another --score")
    score = score or (LABELS if labelled else learned()["default_score"])
    if score is None:
        raise BadSetting(
            "without labels no score is known to choose better than chance (benchmarks/RESULTS.md): give --judge with "
            "some labelled images, or --score to go by one all the same"
        )
    return score


def doubts(score: str) -> str | None:
    """What finished studies say against a score, or None."""
    verdict = learned()["scores"].get(score)
    if verdict is None or verdict["better_than_chance"]:
        return None
    return f"by {score} finished studies chose no better than by lot"


def standing(technique: str, backbone: str, known: Mapping[str, Mapping[str, float]]) -> float:
    """How good a candidate was in other studies, in standard deviations of their cells; what is unknown is as the mean.

    `known`: that of techniques and of backbones, whose sum it is.
    """
    return known["technique"].get(technique, 0.0) + known["backbone"].get(backbone, 0.0)


def read(out: Path, rows: pd.DataFrame, score: str, cell: Cell, epoch: int) -> float:
    """The score of a cell of the study in `out` at a checkpoint, the greater the better; NaN where there is none.

    `rows`: of the study's own judge.
    """
    if score == ELSEWHERE:
        return standing(cell.technique, cell.backbone, learned()["effects"])
    if score == "loss":
        log = {row["epoch"]: row for row in read_log(out / "cells" / cell.name)}
        return -log[epoch]["loss"] / log[epoch]["loss_of_guessing"] if epoch in log else math.nan
    probe, metric = HELD_OUT if score == LABELS else ("geometry", score)
    return GEOMETRY.get(score, 1) * figures(rows, cell, probe, metric).get(epoch, math.nan)


def figures(rows: pd.DataFrame, cell: Cell, probe: str, metric: str) -> dict[int, float]:
    """Epoch -> value, in order, of a cell."""
    own = rows[(rows.probe == probe) & (rows.metric == metric)]
    for name in results.CELL:
        own = own[own[name] == getattr(cell, name)]
    return {int(epoch): float(value) for epoch, value in sorted(zip(own.epoch, own.value, strict=True))}


def probes_for(score: str, labelled: bool) -> dict[str, dict[str, Any]]:
    """What judges the checkpoints: name -> options."""
    names = [*(("linear", "knn") if labelled else ()), *(("geometry",) if score in GEOMETRY or not labelled else ())]
    return {name: {} for name in names}
