"""Images off the topic: those whose neighbours are far away, among what the folder's own features vary in.

The distance to the k-th neighbour: Ramaswamy, Rastogi, Shim, SIGMOD 2000. The features are first whitened: else the few
directions in which most images differ hide the many in which a stranger does.
"""

import numpy as np
import torch
from torch import Tensor

from lilliput.gallery.near import BLOCK

NEIGHBOURS = 10
COMPONENTS = 50
FENCE = 1.5  # interquartile ranges above the upper quartile: Tukey, Exploratory Data Analysis, 1977
FEWEST = 50  # images, below which nothing is usual


def strangeness(features: np.ndarray) -> np.ndarray:
    """[N, D] -> [N]: how far the tenth neighbour is, as a multiple of the usual distance."""
    white = _whitened(torch.from_numpy(features))
    count = min(NEIGHBOURS, len(white) - 1)
    if count < 1:
        return np.ones(len(white))
    far = [torch.cdist(block, white).topk(count + 1, largest=False).values[:, -1] for block in white.split(BLOCK)]
    distances = torch.cat(far)
    return (distances / distances.median().clamp(min=1e-12)).numpy()


def strays(strange: np.ndarray) -> np.ndarray:
    """Rows that are stranger than nearly all others, the strangest first; none of fewer than FEWEST images."""
    if len(strange) < FEWEST:
        return np.zeros(0, np.int64)
    low, high = np.quantile(strange, (0.25, 0.75))
    order = np.argsort(-strange, kind="stable")
    return order[strange[order] > high + FENCE * (high - low)]


def _whitened(features: Tensor) -> Tensor:
    """[N, D] -> [N, K]: along the directions in which they vary most, as much in each."""
    deviations = (features - features.mean(0)).double()
    variances, axes = torch.linalg.eigh(deviations.T @ deviations / len(features))  # ascending
    count = min(COMPONENTS, len(features) - 1, int((variances > 1e-9 * variances[-1]).sum()))
    kept = variances[-count:] if count > 0 else variances[:0]
    return ((deviations @ axes[:, len(variances) - len(kept) :]) / kept.sqrt()).float()
