"""Jigsaw: nine tiles of an image, put in one of a set of orders; tell which.

Noroozi, Favaro, ECCV 2016, https://arxiv.org/abs/1603.09246, sections 3 and 4.
"""

import functools
import itertools
import math
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.errors import BadSetting
from lilliput.images import augment, draws
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.techniques import Technique, full_precision, mlp

GRID = 3
TILE = 64 / 75  # side of a tile, as a share of its cell's: the rest is the gap, placed at random
FLAT = 1e-3  # deviation of a tile below which it is not enlarged further


class Jigsaw(Technique):
    """One network sees every tile by itself; a small one names the order from the nine features."""

    orders: Tensor  # [N, 9]

    contrastive = "no"
    pieces = True
    paper = Recipe("sgd", lr=0.01, lr_per_256=False, batch=256, epochs=70, weight_decay=5e-4, schedule="steps")
    small = SMALL.replace(options={"orders": 64, "hidden": 512})

    def __init__(
        self,
        make_backbone,
        *,
        orders: Annotated[int, ">= 2, <= 1000"] = 1000,
        hidden: Annotated[int, ">= 1"] = 4096,
        narrow: Annotated[int, ">= 1"] = 512,
        grey: Annotated[float, ">= 0, <= 1"] = 0.3,
    ):
        super().__init__()
        if not 2 <= orders <= 1000:
            raise BadSetting(f"orders {orders} must be from 2 to 1000")
        self.encoder = self.build_encoder(make_backbone)
        self.squeeze = nn.Sequential(nn.Linear(self.encoder.dim, narrow), nn.ReLU(inplace=True))
        self.head = mlp(GRID**2 * narrow, hidden, orders)
        self.register_buffer("orders", torch.from_numpy(far_apart(orders)).long(), persistent=False)
        self.grey = grey

    def views(self, images, rng):
        top, left, side = cells(len(images), min(images.shape[2:]), rng)
        images = augment.grey_(images.clone(), rng, p=self.grey)
        tiles = normalised(augment.tiles(images, top, left, side, images.shape[2] // 2))
        which = draws.integers(0, len(self.orders), len(images), rng)
        order = self.orders[which].to(images.device)
        return tiles.gather(1, order[:, :, None, None, None].expand_as(tiles)), which

    def forward(self, tiles, which):
        features = self.squeeze(self.encoder(tiles.flatten(0, 1)))
        logits = self.head(features.view(len(tiles), -1))
        self.measures["orders_told"] = (logits.argmax(1) == which).float().mean()
        return full_precision(F.cross_entropy)(logits, which)

    def guessing(self, batch):
        return math.log(len(self.orders))


def cells(count: int, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Rows and columns [B, 9] where the tiles of a grid begin in images of `size` pixels, and their side."""
    cell = size / GRID
    side = math.floor(cell * TILE)
    shift = draws.shares((count, 2, GRID**2), rng) * (cell - side + 1)
    top, left = (augment.corners(GRID, cell, rng.device) + shift).floor().clamp(max=size - side).unbind(1)
    return top, left, side


def normalised(tiles: Tensor) -> Tensor:
    """Each tile's channels with mean 1/2 and deviation 1/4, so that brightness does not tell which are neighbours."""
    centred = tiles - tiles.mean((-2, -1), keepdim=True)
    return centred / centred.std((-2, -1), keepdim=True).clamp(min=FLAT) / 4 + 0.5


@functools.cache
def far_apart(count: int) -> np.ndarray:
    """[count, 9]: orders chosen one by one, each the farthest on average from those before in how many places differ.

    Algorithm 1 of the paper; the first is that of the image.
    """
    every = np.array(list(itertools.permutations(range(GRID**2))), dtype=np.int8)
    distance = np.zeros(len(every), dtype=np.int32)
    chosen = [0]
    while len(chosen) < count:
        distance += (every != every[chosen[-1]]).sum(1)
        distance[chosen[-1]] = np.iinfo(np.int32).min // 2  # never again
        chosen.append(int(distance.argmax()))
    return every[chosen]
