"""Context prediction: from two tiles of an image, tell on which of eight sides of the first the second lay.

Doersch, Gupta, Efros, ICCV 2015, https://arxiv.org/abs/1505.05192, section 3.
"""

import itertools
import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.images import augment, draws
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.techniques import Technique, constant, full_precision, mlp

GAP, JITTER = 1 / 2, 7 / 96  # of a tile's side: between tiles, and by how much each is moved at most
GRID = 3  # tiles in a row and in a column
PLACES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # rows and columns from the first
# of all tiles of a grid that are neighbours: the first's number, the second's, the place of the second
PAIRS = tuple(
    (row * GRID + column, (row + down) * GRID + column + right, place)
    for row, column in itertools.product(range(GRID), repeat=2)
    for place, (down, right) in enumerate(PLACES)
    if 0 <= row + down < GRID and 0 <= column + right < GRID
)


class ContextPrediction(Technique):
    """One network sees every tile; a small one names the place of one beside another from the features of both.

    Tiles lie in a grid, so that each is part of as many as eight pairs (section 3.1).
    """

    contrastive = "no"
    pieces = True
    paper = Recipe("sgd", lr=1e-3, lr_per_256=False, batch=512, epochs=100, weight_decay=5e-4, sgd_momentum=0.999)
    small = SMALL.replace(options={"hidden": 512, "dropped": 0.0})  # no fringes are left in images of some 64 px

    def __init__(
        self,
        make_backbone,
        *,
        hidden: Annotated[int, ">= 1"] = 4096,
        dropped: Annotated[float, ">= 0, <= 1"] = 1.0,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.head = mlp(2 * self.encoder.dim, hidden, hidden, len(PLACES))
        self.dropped = dropped

    def views(self, images, rng):
        top, left, side = grid(len(images), min(images.shape[2:]), rng)
        tiles = augment.tiles(images, top, left, side, images.shape[2] // 2)  # as small as all backbones take
        return (augment.drop_colours_(tiles.flatten(0, 1), rng, p=self.dropped).view_as(tiles),)

    def forward(self, tiles):
        features = self.encoder(tiles.flatten(0, 1)).view(*tiles.shape[:2], -1)  # [B, 9, D]
        first, second, place = constant(PAIRS, tiles.device).unbind(1)
        logits = self.head(torch.cat([features[:, first], features[:, second]], 2).flatten(0, 1))
        place = place.repeat(len(tiles))
        self.measures["places_told"] = (logits.argmax(1) == place).float().mean()
        return full_precision(F.cross_entropy)(logits, place)

    def guessing(self, batch):
        return math.log(len(PLACES))


def grid(count: int, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Rows and columns [N, 9] where the tiles of a grid begin in images of `size` pixels, and the tiles' side.

    The grid lies anywhere within its image; each tile is moved by itself.
    """
    side = max(1, math.floor(size / (GRID + (GRID - 1) * GAP + 2 * JITTER)))
    shake, step = math.floor(side * JITTER), side + round(side * GAP)
    slack = size - (GRID - 1) * step - side - 2 * shake
    start = draws.integers(0, max(slack, 0) + 1, (count, 2, 1), rng)
    moved = draws.integers(0, 2 * shake + 1, (count, 2, GRID**2), rng)
    top, left = (augment.corners(GRID, step, rng.device) + start + moved).clamp(max=size - side).unbind(1)
    return top, left, side
