"""When training ends before its last epoch."""

from dataclasses import dataclass

import torch

from lilliput.data.store import Data, Images
from lilliput.errors import BadSetting
from lilliput.probes import extract, split
from lilliput.probes.knn import held_out_accuracy
from lilliput.system.plan import Plan


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


def score_of(name: str, encoder: torch.nn.Module, train: Images | None, plan: Plan, row: dict) -> float:
    """The score of an encoder, the greater the better; `train`: labelled images, `row`: its epoch's in the log."""
    if name == "rank" or train is None:
        return row["effective_rank"]
    features = extract(encoder, train, plan=plan, label="score")
    labels = torch.as_tensor(train.labels, device=plan.device)
    fit, held_out = split(train.labels)
    return held_out_accuracy(features, labels, fit, held_out, len(train.classes))["cosine"]
