"""Which checkpoint counts, and how sure a mean or a share is."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.studies.results import CELL

Within = Callable[[float, int], float]  # how often so many equal cells keep within a bound
Z = 1.959964
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
GRID = np.linspace(-8, 8, 801)
NORMAL = np.exp(-(GRID**2) / 2) / np.exp(-(GRID**2) / 2).sum()  # trapezoids: exact far beyond what is shown
FINE = np.linspace(-9, 9, 18001)
CUMULATED = np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in FINE])
BOUNDS = np.linspace(0, 9, 1801)


def select(rows: pd.DataFrame, *, probe: str = "linear", metric: str = "accuracy", start: bool = False) -> pd.DataFrame:
    """For each technique, backbone and seed: the test value at three choices of a checkpoint.

    best: the highest on the test images (the paper's choice; it selects on what it reports), last: the last checkpoint,
    chosen: the checkpoint with the highest value on held-out training images, the earliest in a tie. Epoch 0 is a
    starting point, no checkpoint, except for the baselines; with `start` it alone is taken, and no baseline. Rows are
    those of one judge.
    """
    baseline = rows.technique.isin(BASELINES)
    wanted = (rows.epoch == 0) & ~baseline if start else (rows.epoch > 0) | baseline
    rows = rows[(rows.probe == probe) & wanted].dropna(subset="value")
    picked = []
    for cell, group in rows[rows.metric.isin([metric, f"held_out_{metric}"])].groupby(CELL, sort=False):
        test = _by_epoch(group, metric)
        if len(test):
            picked.append([*cell, *_pick(test, _by_epoch(group, f"held_out_{metric}"))])
    choices = ["best", "best_epoch", "last", "last_epoch", "chosen", "chosen_epoch"]
    return pd.DataFrame(picked, columns=CELL + choices)


def counted_at(selected: pd.DataFrame) -> pd.DataFrame:
    """Of `select`, with the value and epoch that count: the chosen checkpoint's, or the last one's without a choice."""
    value, epoch = selected.chosen.fillna(selected["last"]), selected.chosen_epoch.fillna(selected.last_epoch)
    return selected.assign(value=value, epoch=epoch)


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
    z = Z
    share = successes / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return centre - half, centre + half


class Mean(NamedTuple):
    """An accuracy, the variance of it as an estimate, and with how many degrees of freedom that is known."""

    value: float
    variance: float  # NaN where nothing tells it
    degrees: float
    seeds: tuple[float, float] = (0.0, math.inf)  # of that variance the seeds' part, and its degrees of freedom
    right: np.ndarray | None = None  # [M], of each test image the share of the seeds that classify it rightly

    @property
    def half(self) -> float | None:
        """Of its 95 % interval; None where nothing tells it."""
        return (
            None if math.isnan(self.variance) else _critical(_t_within, 0.95, self.degrees) * math.sqrt(self.variance)
        )


def accuracies(
    cells: Sequence[Iterable[float]], test_images: int | None, right: Sequence[np.ndarray | None] = ()
) -> list[Mean]:
    """Of each cell the mean over its seeds, with the variance that seeds and test images leave it; and what it is
    `right` on, where that is known.

    The seeds' part is by their spread in all cells together, or the cell's own where that is larger: by three seeds
    alone some cell of many always seems to have next to none, and is then told apart from all others; a cell of one
    seed has that of the others. Where no cell has several, no spread is counted. The images' part is added: seeds share
    their test images, so that their spread does not hold all of it (it holds some: the sum errs towards too wide).
    """
    seeds = [np.asarray(list(cell), dtype=float) for cell in cells]
    repeated = [cell for cell in seeds if len(cell) > 1]
    degrees = sum(len(cell) - 1 for cell in repeated)
    pooled = sum(float(cell.var(ddof=1)) * (len(cell) - 1) for cell in repeated) / max(1, degrees)
    means = [_accuracy(cell, pooled, degrees, test_images) for cell in seeds]
    return [mean._replace(right=one) for mean, one in zip(means, right or [None] * len(means), strict=True)]


def _accuracy(seeds: np.ndarray, pooled: float, degrees: int, test_images: int | None) -> Mean:
    mean, own, images = float(seeds.mean()), float(seeds.var(ddof=1)) if len(seeds) > 1 else 0.0, 0.0
    spread = max(pooled, own) / len(seeds)
    if test_images:
        low, high = wilson(mean * test_images, test_images)
        images = ((high - low) / 2 / Z) ** 2
    elif not degrees:
        images = math.nan
    of_seeds = spread, degrees or math.inf
    return Mean(mean, spread + images, _degrees(of_seeds, (images, math.inf)), of_seeds)


def accuracy_interval(values: Iterable[float], test_images: int | None) -> tuple[float, float | None]:
    """Of one cell, as `accuracies`: the mean and half of its 95 % interval; None where nothing tells it."""
    (mean,) = accuracies([values], test_images)
    return mean.value, mean.half


def difference(one: Mean, two: Mean) -> Mean:
    """one - two, with degrees of freedom by Welch (Biometrika 1947).

    Where it is known what each is right on, the images' part is that of their paired differences, in which what is hard
    for both cancels (Agresti, Min, Statistics in Medicine 2005: half an image more in each direction, so that it is
    never nothing). Else they are taken as independent.
    """
    parts = _of_seeds(one, two)
    if one.right is None or two.right is None or len(one.right) != len(two.right):
        parts += [
            (mean.variance - mean.seeds[0], mean.degrees if math.isinf(mean.seeds[1]) else math.inf)
            for mean in (one, two)
        ]
    else:
        gaps, images = one.right - two.right, len(one.right)
        paired = (np.sum(gaps**2) + 1 - np.sum(gaps) ** 2 / images) / images**2
        parts.append((float(paired), math.inf))
    return Mean(one.value - two.value, sum(variance for variance, _ in parts), _degrees(*parts))


def _of_seeds(one: Mean, two: Mean) -> list[tuple[float, float]]:
    """The seeds' parts: two that are known by the same degrees of freedom are by one estimate, of the study's spread,
    which is no surer for being used twice."""
    if one.seeds[1] == two.seeds[1]:
        return [(one.seeds[0] + two.seeds[0], one.seeds[1])]
    return [one.seeds, two.seeds]


def chance_of(gap: Mean) -> float:
    """The two-sided p-value of a difference: how often one as large comes where there is none; NaN where unknown."""
    if math.isnan(gap.variance):
        return math.nan
    if gap.variance == 0:
        return float(gap.value == 0)
    return max(0.0, 1 - _t_within(abs(gap.value) / math.sqrt(gap.variance), gap.degrees))


def holm(chances: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several p-values hold so that all of them do in 1 - level of cases (Holm, 1979); NaN never does."""
    known = sorted((chance, place) for place, chance in enumerate(chances) if not math.isnan(chance))
    sure = [False] * len(chances)
    for rank, (chance, place) in enumerate(known):
        if chance > level / (len(known) - rank):
            break
        sure[place] = True
    return sure


def may_be_best(means: Sequence[Mean], level: float = 0.05) -> list[bool]:
    """Which of several may be the truly best: it is among them in 1 - level of cases (Hsu, Annals of Statistics 1981).

    That another is not among them says that it is not better than all others, not that it is worse than the best: where
    all are equal, some fall out often. `worse` says that.
    """
    return [not any(_beyond(best_within, other, mean, len(means), level) for other in means) for mean in means]


def worse(means: Sequence[Mean], level: float = 0.05) -> list[bool]:
    """Which of several are worse than one of the others; where all are equal, none in 1 - level of cases.

    By the studentized range (Tukey), with variances and degrees of freedom by pairs.
    """
    return [any(_beyond(range_within, other, mean, len(means), level) for other in means) for mean in means]


def _beyond(within: Within, better: Mean, mean: Mean, cells: int, level: float) -> bool:
    """Whether `better` is so by more than the best of so many equal ones would seem to be."""
    gap = difference(better, mean)
    if math.isnan(gap.variance) or gap.value <= 0:
        return False
    bound = gap.value / math.sqrt(gap.variance) if gap.variance else math.inf
    if bound <= critical(within, cells, math.inf, level):  # the least that any degrees of freedom ask
        return False
    return _averaged(within, bound, cells, gap.degrees) > 1 - level


def spearman(first: pd.Series, second: pd.Series) -> float:
    """Rank correlation of two series of the same index, ties sharing the mean of their ranks.

    NaN with fewer than two pairs, or where a side does not vary.
    """
    ranks = first.rank(), second.rank()
    if len(first) < 2 or any(side.nunique() < 2 for side in ranks):
        return math.nan
    return float(ranks[0].corr(ranks[1]))


def spearman_interval(correlation: float, pairs: int) -> tuple[float, float]:
    """95 % interval of a rank correlation of independent pairs, by Fisher's z with the variance of Bonett and Wright
    (Psychometrika 2000); from -1 to 1 with fewer than four pairs, which say nothing.

    A perfect order is taken as half a step below it: few pairs are in order by chance.
    """
    if pairs < 4 or math.isnan(correlation):
        return -1.0, 1.0
    most = 1 - 6 / (pairs**3 - pairs)
    z = math.atanh(min(max(correlation, -most), most))
    half = Z * math.sqrt((1 + correlation**2 / 2) / (pairs - 3))
    return min(math.tanh(z - half), correlation), max(math.tanh(z + half), correlation)


def _by_epoch(group: pd.DataFrame, metric: str) -> pd.Series:
    return group[group.metric == metric].set_index("epoch").value.sort_index()


def _pick(test: pd.Series, held_out: pd.Series) -> tuple:
    held_out = held_out[held_out.index.isin(test.index)]
    # One checkpoint is no choice: a baseline needs no held-out images.
    at = held_out.idxmax() if len(held_out) else test.index[0] if len(test) == 1 else None
    chosen = (test[at], at) if at is not None else (math.nan, math.nan)
    return test.max(), test.idxmax(), test.iloc[-1], test.index[-1], *chosen


def _degrees(*parts: tuple[float, float]) -> float:
    """Of a sum of variances, each with its own degrees of freedom (Satterthwaite, 1946)."""
    total = sum(variance for variance, _ in parts)
    unsure = sum(variance**2 / degrees for variance, degrees in parts if variance > 0)
    return total**2 / unsure if unsure > 0 else math.inf


def _t_quantile(degrees: float) -> float:
    """Where Student's t leaves 2.5 % above it."""
    return _critical(_t_within, 0.95, degrees)


def _t_within(t: float, degrees: float) -> float:
    """Of Student's t, the share within +-t: as an integral over the angle whose tangent is t / sqrt(degrees)."""
    if degrees > 1e6:
        return math.erf(t / math.sqrt(2))
    end = math.atan(t / math.sqrt(degrees))
    angles = end * (NODES + 1) / 2
    half = math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)) * math.sqrt(math.pi) / 2
    return float(end / 2 * np.sum(WEIGHTS * np.cos(angles) ** (degrees - 1)) / half)


def best_within(bound: float, cells: int) -> float:
    """How often a given one of so many equal cells is behind none of the others by `bound` standard errors of a
    difference (Dunnett's one-sided distribution with correlations of one half)."""
    return float(np.sum(NORMAL * _below(GRID + math.sqrt(2) * bound) ** (cells - 1)))


def range_within(bound: float, cells: int) -> float:
    """How often no two of so many equal cells are further apart than `bound` standard errors of a difference."""
    above = _below(GRID + math.sqrt(2) * bound) - _below(GRID)
    return float(cells * np.sum(NORMAL * above ** (cells - 1)))


@functools.cache
def _table(within: Within, cells: int) -> np.ndarray:
    return np.array([within(bound, cells) for bound in BOUNDS])


@functools.lru_cache(4096)
def critical(within: Within, cells: int, degrees: float = math.inf, level: float = 0.05) -> float:
    """The bound, in estimated standard errors of a difference, that holds in 1 - level of cases."""
    return _critical(lambda bound, known: _averaged(within, bound, cells, known), 1 - level, degrees)


def _averaged(within: Within, bound: float, cells: int, degrees: float) -> float:
    """As `within`, of a standard error that is estimated with so many degrees of freedom: over all it may be."""
    table = _table(within, cells)
    if degrees > 1e4:
        return float(np.interp(bound, BOUNDS, table))
    spread = 8 / math.sqrt(2 * degrees)
    ratios = np.linspace(max(0.0, 1 - spread), 1 + spread, 2002)[1:-1]  # of the estimate to the true standard error
    log = (degrees - 1) * np.log(ratios) - degrees * ratios**2 / 2
    shares = np.exp(log - log.max())
    return float(shares @ np.interp(bound * ratios, BOUNDS, table) / shares.sum())


def _critical(within: Callable[[float, float], float], share: float, degrees: float) -> float:
    low, high = 0.0, 1e3
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, degrees) < share else (low, middle)
    return high


def _below(x: np.ndarray) -> np.ndarray:
    """The normal distribution, from a table: numpy has no error function."""
    return np.interp(x, FINE, CUMULATED)
