"""Which checkpoint counts, and how sure a mean or a share is."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.studies.results import CELL


def select(rows: pd.DataFrame, *, probe: str = "linear", metric: str = "accuracy") -> pd.DataFrame:
    """For each technique, backbone and seed: the test value at three choices of a checkpoint.

    best: the highest on the test images (the paper's choice; it selects on what it reports), last: the last checkpoint,
    chosen: the checkpoint with the highest value on held-out training images, the earliest in a tie. Epoch 0 is a
    starting point, no checkpoint, except for the baselines. Rows are those of one judge.
    """
    rows = rows[(rows.probe == probe) & ((rows.epoch > 0) | rows.technique.isin(BASELINES))].dropna(subset="value")
    picked = []
    for cell, group in rows[rows.metric.isin([metric, f"held_out_{metric}"])].groupby(CELL, sort=False):
        test = _by_epoch(group, metric)
        if len(test):
            picked.append([*cell, *_pick(test, _by_epoch(group, f"held_out_{metric}"))])
    choices = ["best", "best_epoch", "last", "last_epoch", "chosen", "chosen_epoch"]
    return pd.DataFrame(picked, columns=CELL + choices)


def finished(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the seeds that stopped before the furthest seed of their technique and backbone.

    A mean over a finished run and one that crashed early is the figure of neither.
    """
    reached = rows.groupby(CELL).epoch.transform("max")
    return rows[reached == rows.groupby(["technique", "backbone"]).epoch.transform("max")]


def interval(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean over seeds and the half-width of its 95 % t-interval; None with one seed, which says nothing of spread."""
    seeds = np.asarray(list(values), dtype=float)
    if len(seeds) < 2:
        return float(seeds.mean()), None
    return float(seeds.mean()), float(_t_quantile(len(seeds) - 1) * seeds.std(ddof=1) / math.sqrt(len(seeds)))


def wilson(successes: float, total: int) -> tuple[float, float]:
    """95 % interval of a share of `total` test images: what the images alone leave open (Wilson, JASA 1927)."""
    z = 1.959964
    share = successes / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return centre - half, centre + half


def accuracy_interval(values: Iterable[float], test_images: int | None) -> tuple[float, float | None]:
    """Mean over seeds and the half-width of its 95 % interval: over the seeds, or of the test images with one seed.

    None where there is one seed and the number of test images is not known.
    """
    mean, half = interval(values)
    if half is None and test_images:
        low, high = wilson(mean * test_images, test_images)
        half = (high - low) / 2
    return mean, half


def spearman(first: pd.Series, second: pd.Series) -> float:
    """Rank correlation of two series of the same index, ties sharing the mean of their ranks.

    NaN with fewer than two pairs, or where a side does not vary.
    """
    ranks = first.rank(), second.rank()
    if len(first) < 2 or any(side.nunique() < 2 for side in ranks):
        return math.nan
    return float(ranks[0].corr(ranks[1]))


def _by_epoch(group: pd.DataFrame, metric: str) -> pd.Series:
    return group[group.metric == metric].set_index("epoch").value.sort_index()


def _pick(test: pd.Series, held_out: pd.Series) -> tuple:
    held_out = held_out[held_out.index.isin(test.index)]
    # One checkpoint is no choice: a baseline needs no held-out images.
    at = held_out.idxmax() if len(held_out) else test.index[0] if len(test) == 1 else None
    chosen = (test[at], at) if at is not None else (math.nan, math.nan)
    return test.max(), test.idxmax(), test.iloc[-1], test.index[-1], *chosen


def _t_quantile(degrees: int) -> float:
    """Where Student's t leaves 2.5 % above it: bisection on the finite sums of Abramowitz and Stegun 26.7.3 and .4."""
    low, high = 0.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < 0.95 else (low, middle)
    return high


def _t_within(t: float, degrees: int) -> float:
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(odd, degrees - 1, 2):  # the sum ends at cos^(degrees - 2)
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
