"""When training ends, or pauses, before its last epoch."""

import time
from dataclasses import dataclass

import torch

from lilliput.data.store import Data, spaced
from lilliput.errors import BadSetting
from lilliput.probes import effective_rank, extract, split
from lilliput.probes.knn import held_out_accuracy
from lilliput.system.plan import Plan

RANKED = 4000  # images: of a few hundred the rank stops short of what it is


@dataclass(frozen=True)
class Stopping:
    """Training is over once `score` has not improved for `after` checkpoints.

    score: "knn", the accuracy on held-out labelled images, or "rank", the features' effective rank, without labels.
    """

    after: int
    score: str

    def reason(self, scores: list[float]) -> str | None:
        """Why training is over, or None: no score of the last `after` checkpoints beats the best before them."""
        if len(scores) <= self.after or max(scores[-self.after :]) > max(scores[: -self.after]):
            return None
        best = max(scores[: -self.after])
        return f"{self.score} {best:.4g} has not improved for {self.after} checkpoints"


@dataclass(frozen=True)
class Until:
    """How far a run trains for now; it is left as an interrupted one is, and goes on with the same bits.

    epoch: the last one. moment: of the clock (`time.time()`), whatever the epoch.
    """

    epoch: int | None = None
    moment: float | None = None

    def reaches(self, epoch: int) -> bool:
        """Whether so many epochs are all that is wanted."""
        return self.epoch is not None and epoch >= self.epoch

    def is_over(self) -> bool:
        return self.moment is not None and time.time() >= self.moment


def stopping_rule(data: Data, after: int | None, score: str | None) -> Stopping | None:
    """The rule for these data, None where `after` is; BadSetting or BadData where the score cannot be had."""
    score = score or ("knn" if data.train else "rank")
    if score not in ("knn", "rank"):
        raise BadSetting(f"score {score!r} is neither knn nor rank")
    if not after:
        return None
    if score == "knn":
        if not data.train:
            raise BadSetting(f"{data.name} has no labels for a kNN score; use --score rank")
        split(data.train.labels)
    return Stopping(after, score)


def score_of(name: str, encoder: torch.nn.Module, data: Data, plan: Plan) -> float:
    """The score of an encoder by these data, the greater the better."""
    if name == "rank" or data.train is None:
        images = data.pool.take(data.pool.at_hand(spaced(len(data.pool), RANKED)))
        return effective_rank(extract(encoder, images, plan=plan, label="score"))
    features = extract(encoder, data.train, plan=plan, label="score")
    labels = torch.as_tensor(data.train.labels, device=plan.device)
    fit, held_out = split(data.train.labels)
    return held_out_accuracy(features, labels, fit, held_out, len(data.train.classes))["cosine"]
