"""Images that are there twice: the same files, and copies compressed anew, cropped a little, mirrored, made brighter.

Features propose and pixels decide: an encoder's nearest images hold nearly every copy, but also whatever looks alike to
it; so each proposed pair is laid over one another in grey, in several crops and mirrored, and correlated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.gallery.near import centred, nearest

PROPOSED = 5  # neighbours of an image
COARSE, LEAST = 8, 0.7  # pixels a side of a first look at a pair, and the correlation from which it gets a second
SIDE = 16  # pixels a side of pictures that are laid over one another
CROPS = (0.95, 0.9)  # of a picture, at nine places each, beside the whole
COSINE = 0.2  # what the features' cosine counts beside the correlation
SURE = 1.12  # the least of both together; see benchmarks/RESULTS.md
PAIRS = 256  # at once


class Pair(NamedTuple):
    one: int  # rows, the lower first
    other: int
    likeness: float  # 1 + COSINE at most, which equal pictures have


def alike(features: np.ndarray, grey: np.ndarray, digests: Sequence[str], *, sure: float = SURE) -> list[Pair]:
    """Pairs of copies among images with features [N, D], grey pictures uint8 [N, 32, 32] and files of these digests.

    Of equal files each is paired with the first of them alone.
    """
    equal = _equal(digests)
    scored = likenesses(features, grey)
    near = [Pair(*pair, score) for pair, score in scored.items() if score >= sure and pair not in equal]
    return sorted([*(Pair(*pair, 1 + COSINE) for pair in equal), *near])


def likenesses(features: np.ndarray, grey: np.ndarray) -> dict[tuple[int, int], float]:
    """Of each pair that the features propose, and that is not plainly different, how alike its images are."""
    if len(features) < 2:
        return {}
    cosines, rows = nearest(centred(torch.from_numpy(features)), PROPOSED)
    ones = torch.arange(len(rows))[:, None].expand_as(rows)
    pairs, first = np.unique(
        torch.stack([ones, rows], 2).sort(2).values.reshape(-1, 2).numpy(), axis=0, return_index=True
    )
    pictures, proposed = torch.from_numpy(grey).float(), torch.from_numpy(pairs)
    likely = _at_first_sight(pictures, proposed) >= LEAST
    proposed, cosine = proposed[likely], cosines.reshape(-1)[torch.from_numpy(first)][likely]
    seen = [_laid_over(pictures[part[:, 0]], pictures[part[:, 1]]) for part in proposed.split(PAIRS)]
    scores = torch.cat(seen) + COSINE * cosine
    return {(one, other): score for (one, other), score in zip(proposed.tolist(), scores.tolist(), strict=True)}


def groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """Rows that pairs join, directly or by others, each sorted."""
    leader: dict[int, int] = {}

    def found(row: int) -> int:
        while leader.setdefault(row, row) != row:
            row = leader[row]
        return row

    for one, other, _ in pairs:
        ends = sorted((found(one), found(other)))
        leader[ends[1]] = ends[0]
    joined: dict[int, list[int]] = {}
    for row in sorted(leader):
        joined.setdefault(found(row), []).append(row)
    return list(joined.values())


def _equal(digests: Sequence[str]) -> set[tuple[int, int]]:
    first: dict[str, int] = {}
    pairs = {(first.setdefault(digest, row), row) for row, digest in enumerate(digests)}
    return {pair for pair in pairs if pair[0] != pair[1]}


def _at_first_sight(pictures: Tensor, pairs: Tensor) -> Tensor:
    """Correlations [P] of small pictures, the other as it is or mirrored."""
    small = F.adaptive_avg_pool2d(pictures[:, None], COARSE)[:, 0]
    plain, mirrored = _unit(small.flatten(1)), _unit(small.flip(2).flatten(1))
    one, other = plain[pairs[:, 0]], pairs[:, 1]
    return torch.maximum((one * plain[other]).sum(1), (one * mirrored[other]).sum(1))


def _laid_over(ones: Tensor, others: Tensor) -> Tensor:
    """[P, 32, 32] each -> [P]: the highest correlation of the one with any crop of the other, either way round."""
    grids = _grids()
    best = [(_sampled(a, grids) * _sampled(b, grids[:1])).sum(2).amax(1) for a, b in ((ones, others), (others, ones))]
    return torch.maximum(*best)


def _sampled(pictures: Tensor, grids: Tensor) -> Tensor:
    """[P, 32, 32] at the places of V grids -> [P, V, SIDE * SIDE], each without its mean and of length 1."""
    views = [
        F.grid_sample(pictures[:, None], grid.expand(len(pictures), -1, -1, -1), align_corners=False) for grid in grids
    ]
    return _unit(torch.cat(views, 1).flatten(2))


def _grids() -> Tensor:
    """Where to sample a picture for all of it, for its crops, and for these mirrored, [V, SIDE, SIDE, 2]."""
    turns = []
    for mirror in (1, -1):
        for scale in (1.0, *CROPS):
            places = (0.0,) if scale == 1 else (scale - 1, 0.0, 1 - scale)
            turns += [[[mirror * scale, 0, x], [0, scale, y]] for x in places for y in places]
    return F.affine_grid(torch.tensor(turns), [len(turns), 1, SIDE, SIDE], align_corners=False)


def _unit(pixels: Tensor) -> Tensor:
    """[..., n] without its mean and of length 1; a plain picture stays 0, like no other."""
    deviations = pixels - pixels.mean(-1, keepdim=True)
    return deviations / deviations.norm(dim=-1, keepdim=True).clamp(min=pixels.shape[-1] ** 0.5)  # a grey level
