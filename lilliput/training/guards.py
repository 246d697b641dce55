"""What is wrong with a run, seen in its log while it trains: each flag has a name, a reason and what to try.

Thresholds: where runs that were broken on purpose and 25 healthy cells lie apart (docs/reliability.md).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lilliput.system.progress import say

SETTLED = 50  # steps, before which a loss may be a guess and batch norm's statistics a first impression
FADED = 0.005  # of the first epoch's gradient
LOWEST_RANK = 4.0
NARROW = 0.6
DEAD = 0.75  # share of features
FOUND = 2  # times chance
GREY = 0.95  # share of cells of one colour: photographs have a third, by day or by night


class Guard(NamedTuple):
    name: str
    sees: Callable[[dict, dict], bool]  # the first and the last row of the log
    why: str  # with the last row's values in it
    remedy: str


def _guesses(_first: dict, row: dict) -> bool:
    """A loss as high as that of telling nothing apart, unless it is one of telling much apart the wrong way round: what
    ends in batch norm spreads its directions before it learns, and is far from a guess."""
    guess = row.get("loss_of_guessing")
    if guess is None or row["loss"] < 0.999 * guess:
        return False
    return row.get("partners_found", 0.0) < FOUND * math.exp(-guess)


def _faded(first: dict, row: dict) -> bool:
    return row["gradient_norm"] < max(FADED * first["gradient_norm"], 1e-6)


GUARDS = (
    Guard(
        "loss_of_a_guess",
        _guesses,
        "the loss of epoch {epoch}, {loss:.4g}, is no better than the {loss_of_guessing:.4g} of telling nothing apart",
        "a learning rate 10 times lower (or higher, if it hardly moves), a longer warm-up, or check the images",
    ),
    Guard(
        "gradient_vanished",
        _faded,
        "the gradient's norm in epoch {epoch}, {gradient_norm:.2g}, is next to nothing of what it was",
        "a lower learning rate, features that do not end in a ReLU, batch norm",
    ),
    Guard(
        "features_lost_rank",
        lambda _, row: row["effective_rank"] < LOWEST_RANK,
        "features of effective rank {effective_rank:.1f} after epoch {epoch}: the images look nearly alike to it",
        "a predictor and a target without gradient (BYOL), more negatives or a larger batch, a lower learning rate",
    ),
    Guard(
        "projections_gather",
        lambda _, row: row.get("spread", 1.0) < NARROW,
        "the images' projections have a spread of {spread:.2f} in epoch {epoch}, where 1 is all apart and 0 all alike",
        "a predictor, a target without gradient that moves slowly (tau), a lower learning rate",
    ),
    Guard(
        "features_died",
        lambda _, row: row.get("dead", 0.0) > DEAD,
        "{dead:.0%} of the features are the same for all of {images_ranked} images after epoch {epoch}",
        "a lower learning rate, or a backbone with batch norm",
    ),
    Guard(
        "no_colour",
        lambda _, row: row.get("colour_told_by_majority", 0.0) > GREY,
        "{colour_told_by_majority:.0%} of the cells have one colour: one half paints nothing, the other sees nothing",
        "another technique: images without colour leave this one nothing to learn",
    ),
)


@torch.inference_mode()
def dead(features: Tensor) -> float:
    """The share of features [N, D] that are the same for all N images."""
    return (features.amax(0) == features.amin(0)).float().mean().item()


def flags(rows: list[dict]) -> list[str]:
    """The names of what is wrong after the last of a log's rows."""
    settled = rows[-1].get("steps", SETTLED) >= SETTLED
    return [guard.name for guard in GUARDS if settled and guard.sees(rows[0], rows[-1])]


def watch(rows: list[dict], label: str) -> None:
    """Write the last row's flags into it, and say each that the row before did not have."""
    raised = flags(rows)
    before = rows[-2].get("flags", []) if len(rows) > 1 else []
    if raised:
        rows[-1]["flags"] = raised
    for guard in GUARDS:
        if guard.name in raised and guard.name not in before:
            say(f"{label}: {guard.name}: {guard.why.format(**rows[-1])}; try {guard.remedy}")


def remedy(name: str) -> str:
    """What to try where a flag is up."""
    return {guard.name: guard.remedy for guard in GUARDS}.get(name, PROBE_REMEDIES.get(name, ""))


PROBE_REMEDIES = {
    "probe_not_converged": "more steps (linear: steps=1000), or look whether the features are finite",
}
