"""Context prediction: from two tiles of an image, tell on which of eight sides of the first the second lay.

Doersch, Gupta, Efros, ICCV 2015, https://arxiv.org/abs/1505.05192, section 3.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.images import augment, draws
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.techniques import Technique, constant, full_precision, mlp

GAP, JITTER = 1 / 2, 7 / 96  # of a tile's side: between tiles, and by how much each is moved at most
PLACES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # rows and columns from the first


class ContextPrediction(Technique):
    """One network sees both tiles; a small one names the place from both features."""

    contrastive = "no"
    paper = Recipe("sgd", lr=1e-3, lr_per_256=False, batch=512, epochs=100, weight_decay=5e-4, sgd_momentum=0.999)
    small = SMALL

    def __init__(
        self,
        make_backbone,
        *,
        hidden: Annotated[int, ">= 1"] = 4096,
        dropped: Annotated[float, ">= 0, <= 1"] = 1.0,
        pairs: Annotated[int, ">= 1"] = 2,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.head = mlp(2 * self.encoder.dim, hidden, hidden, len(PLACES))
        self.dropped, self.pairs = dropped, pairs

    def views(self, images, rng):
        top, left, place, side = places(len(images) * self.pairs, min(images.shape[2:]), rng)
        images = images.repeat_interleave(self.pairs, 0)
        tiles = augment.tiles(images, top, left, side, _enlarged(images))
        first, second = (augment.drop_colours_(own.clone(), rng, p=self.dropped) for own in tiles.unbind(1))
        return first, second, place

    def forward(self, first, second, place):
        features = self.encoder(torch.cat([first, second])).chunk(2)
        logits = self.head(torch.cat(features, 1))
        self.measures["places_told"] = (logits.argmax(1) == place).float().mean()
        return full_precision(F.cross_entropy)(logits, place)

    def guessing(self, batch):
        return math.log(len(PLACES))


def places(count: int, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    """Rows and columns [N, 2] where a tile and its neighbour begin in images of `size` pixels, which neighbour [N] it
    is, and the tiles' side."""
    side = max(1, math.floor(size / (3 + 2 * GAP + 2 * JITTER)))
    shake = math.floor(side * JITTER)
    step = side + round(side * GAP)
    place = draws.integers(0, len(PLACES), count, rng)
    away = constant(PLACES, rng.device)[place] * step  # [N, 2]
    # the first tile lies anywhere, as long as both are within the image whatever they are shaken by
    low, high = shake - away.clamp(max=0), size - side - shake - away.clamp(min=0)
    first = low + (draws.shares((count, 2), rng) * (high - low + 1)).floor().long()
    both = torch.stack([first, first + away], dim=1)  # [N, tile, axis]
    both = both + draws.integers(-shake, shake + 1, both.shape, rng)
    return both[..., 0], both[..., 1], place, side


def _enlarged(images: Tensor) -> int:
    """Pixels of a tile as the network sees it: half of the image's, which all backbones take."""
    return images.shape[2] // 2
