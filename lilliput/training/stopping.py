"""When training ends before its last epoch."""

from typing import Any

import torch

from lilliput.data.store import Data
from lilliput.errors import BadSetting
from lilliput.probes._exam import split
from lilliput.probes._features import extract
from lilliput.probes.knn import held_out_accuracy
from lilliput.system.plan import Plan


def stop_rule(data: Data, until_converged: int | None, score: str | None) -> dict[str, Any] | None:
    """When training ends before its last epoch, or None; BadSetting where the score cannot be had."""
    score = score or ("knn" if data.train else "rank")
    if score not in ("knn", "rank"):
        raise BadSetting(f"score {score!r} is neither knn nor rank")
    if not until_converged:
        return None
    if score == "knn":
        if not data.train:
            raise BadSetting(f"{data.name} has no labels for a kNN score; use --score rank")
        split(data.train.labels)
    return {"after": until_converged, "score": score}


def score_of(name: str, encoder: torch.nn.Module, data: Data, plan: Plan, row: dict) -> float:
    if name == "rank":
        return row["effective_rank"]
    assert data.train
    features = extract(encoder, data.train, plan=plan, label="score")
    labels = torch.as_tensor(data.train.labels, device=plan.device)
    fit, held_out = split(data.train.labels)
    return held_out_accuracy(features, labels, fit, held_out, len(data.train.classes))["cosine"]


def converged(scores: list[float], stop: dict) -> str | None:
    """Why training is over, or None: no score of the last `after` checkpoints beats the best before them."""
    after = stop["after"]
    if len(scores) <= after or max(scores[-after:]) > max(scores[:-after]):
        return None
    return f"{stop['score']} {max(scores[:-after]):.4g} has not improved for {after} checkpoints"
