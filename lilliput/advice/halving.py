"""Successive halving, all candidates of a rung side by side: of those that trained so far the best third goes on.

Jamieson, Talwalkar, AISTATS 2016, https://arxiv.org/abs/1502.07943, algorithm 1, as scikit-learn has it. Its candidates
are trained and scored one by one; here a whole rung is trained at once, so that an engine can share it out.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV

FACTOR = 3  # one in so many goes on
MOST_RUNGS = 3  # a longer ladder begins with trainings too short to tell anything
CHECKPOINTS = 4  # in a ladder of one rung: what the clock breaks off has been judged before
LOWEST = -1e9  # the score of a candidate that failed: scikit-learn warns of what is no number


class Rung(NamedTuple):
    """So many candidates that train up to an epoch."""

    epoch: int
    candidates: int


def rungs_of(candidates: int, every: int, alone: int = CHECKPOINTS) -> list[Rung]:
    """The ladder for so many candidates with a checkpoint `every` so many epochs: the first rung is at the first of
    them, or, where it is the only one, after as many as `alone` says."""
    count = min(MOST_RUNGS, 1 + int(math.log(candidates, FACTOR) + 1e-9))
    first = every * (alone if count == 1 else 1)
    rungs, left = [], candidates
    for number in range(count):
        rungs.append(Rung(first * FACTOR**number, left))
        left = math.ceil(left / FACTOR)
    return rungs


def halve(
    names: Sequence[str],
    rungs: Sequence[Rung],
    train: Callable[[list[str], int], None],
    score: Callable[[str, int], float],
) -> str:
    """The winner: `train`(names, epoch) brings those of a rung to its epoch, after the first the best of them first,
    and `score`(name, epoch) then judges, the greater the better; not a number counts as lowest. What `train` raises
    ends the search."""
    search = _Rungs(
        _Candidate(),
        {"name": list(names)},
        factor=FACTOR,
        resource="epoch",
        min_resources=rungs[0].epoch,
        max_resources=rungs[-1].epoch,
        scoring=lambda candidate, X, y=None: _finite(score(candidate.name, candidate.epoch)),
        cv=[(np.zeros(1, int), np.zeros(1, int))],  # the score is the candidate's own: there is nothing to split
        refit=False,
        return_train_score=False,
        error_score="raise",
    )
    search.train = train
    search.fit(np.zeros((1, 1)))
    last = search.cv_results_["iter"] == max(search.cv_results_["iter"])
    best = np.argmax(np.where(last, search.cv_results_["mean_test_score"], -np.inf))
    return search.cv_results_["params"][best]["name"]


def _finite(score: float) -> float:
    return score if math.isfinite(score) else LOWEST


class _Candidate(BaseEstimator):
    """A name, and how far it is trained: what scikit-learn varies."""

    def __init__(self, name: str | None = None, epoch: int = 0):
        self.name, self.epoch = name, epoch

    def fit(self, X: Any, y: Any = None) -> "_Candidate":
        return self


class _Rungs(HalvingGridSearchCV):
    """Trains all of a rung before any of it is scored; who leads is trained first, as the time may end."""

    train: Callable[[list[str], int], None]

    def _run_search(self, evaluate_candidates: Callable, callback_ctx: Any = None) -> None:
        def after_training(candidates: list[dict[str, Any]], *rest: Any, **named: Any) -> Any:
            names = [candidate["name"] for candidate in candidates]
            is_first = len(names) == len(self.param_grid["name"])  # else the best of the rung before, the best last
            self.train(names if is_first else names[::-1], candidates[0]["epoch"])
            return evaluate_candidates(candidates, *rest, **named)

        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}  # from scikit-learn 1.9 on
        super()._run_search(after_training, **context)
