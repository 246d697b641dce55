"""Where a learning curve will end: its last value, and what finished curves did from there on.

Split conformal intervals (Lei et al., JASA 2018, https://arxiv.org/abs/1604.04173, algorithm 2): the residuals of
finished curves, sorted, of which the interval leaves out as many as it may miss. A residual counts in units of what
chance alone makes of a reading, by its number of images, and of what the doublings of training that were left may do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

MISSED = 0.1  # of the intervals
DRIFT = 0.03  # of accuracy in a doubling of training: a unit, of which the quantiles tell how many there are


class Expected(NamedTuple):
    """An accuracy that is to be, with its 90 % interval; infinite where too few curves are known."""

    value: float
    low: float
    high: float


class Seen(NamedTuple):
    """Of a finished curve: a held-out accuracy, at which share of the training, and what the end was."""

    value: float
    share: float
    images: int  # held out
    end: float


def unit(value: float, share: float, images: int) -> float:
    """How far off an accuracy may well be that was read of so many images after a share of the training."""
    smoothed = (value * images + 1) / (images + 2)  # of no image right, too, something is open
    return math.sqrt(smoothed * (1 - smoothed) / images + (DRIFT * math.log2(1 / share)) ** 2)


def residuals(seen: Iterable[Seen]) -> list[float]:
    """By how many units the ends were above what was read, sorted."""
    return sorted((one.end - one.value) / unit(one.value, one.share, one.images) for one in seen)


def quantiles(groups: Sequence[Sequence[float]]) -> dict[str, float | int | None]:
    """Of sorted residuals in groups, what the package keeps: the median of all, and the ends between which all but a
    tenth of every group lie. A group is what shares its images: how it departs from the others holds of all of it."""
    together = sorted(value for group in groups for value in group)
    ends = [end for group in groups if (end := _ends(group))]
    return {
        "count": len(together),
        "low": min((low for low, _ in ends), default=None),
        "middle": together[len(together) // 2] if together else 0.0,
        "high": max((high for _, high in ends), default=None),
    }


def _ends(ordered: Sequence[float]) -> tuple[float, float] | None:
    """None where a tenth of so few and of the one to come is less than one at each end."""
    rank = math.ceil((len(ordered) + 1) * (1 - MISSED / 2))
    return (ordered[len(ordered) - rank], ordered[rank - 1]) if rank <= len(ordered) else None


def beside(value: float, share: float, images: int, end: float, learned: Mapping[str, Any]) -> float:
    """How many times as wide the interval must be on that side to hold an end; at most 1 where it holds it."""
    off = (end - value) / unit(value, share, images) - learned["middle"]
    side = learned["low" if off < 0 else "high"]
    return 0.0 if side is None or off == 0 else off / (side - learned["middle"])


def widened(learned: Mapping[str, Any], times: float) -> dict[str, Any]:
    """Quantiles whose intervals are so many times as wide."""
    middle = learned["middle"]
    known = {name: learned[name] for name in ("low", "high") if learned[name] is not None}
    return {**learned, **{name: middle + times * (end - middle) for name, end in known.items()}, "widened": times}


def expected(value: float, share: float, images: int, learned: Mapping[str, Any]) -> Expected:
    """The accuracy at the end of a training of which a `share` is done, that is `value` now on so many held-out images;
    by `quantiles` of finished curves."""
    scale = unit(value, share, images)
    low, middle, high = (learned[name] for name in ("low", "middle", "high"))
    return Expected(
        value + scale * middle,
        -math.inf if low is None else max(0.0, value + scale * low),
        math.inf if high is None else min(1.0, value + scale * high),
    )
