"""RotNet: predict by how many quarter turns an image was rotated.

Gidaris, Singh, Komodakis, ICLR 2018, https://arxiv.org/abs/1803.07728, section 3.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.techniques import Technique, full_precision


class RotNet(Technique):
    """Every image of a batch in all four turns; a linear layer on the features names the turn."""

    contrastive = "no"
    paper = Recipe(
        "sgd",
        lr=0.1,
        lr_per_256=False,
        batch=128,
        epochs=100,
        weight_decay=5e-4,
        decay_vectors=True,
        nesterov=True,
        schedule="steps",
    )
    small = SMALL
    large = LARGE.replace(lr=0.1)

    def __init__(self, make_backbone, *, padding: Annotated[float, ">= 0, < 1"] = 1 / 8):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.head = nn.Linear(self.encoder.dim, 4)
        self.padding = padding

    def views(self, images, rng):
        # cropped before it is turned: a border that turns along would give the answer away
        return (augment.padded_crop(images, rng, padding=self.padding),)

    def forward(self, images):
        logits = self.head(self.encoder(four_turns(images)))
        return self._score(logits)

    def guessing(self, batch):
        return math.log(4)

    def _score(self, logits):
        turns = torch.arange(4, device=logits.device).repeat_interleave(len(logits) // 4)
        self.measures["turns_told"] = (logits.argmax(1) == turns).float().mean()
        return full_precision(F.cross_entropy)(logits, turns)


def four_turns(images: Tensor) -> Tensor:
    """[B, 3, S, S] -> [4B, 3, S, S]: all images turned by 0, then all by 1, 2 and 3 quarters; pixels move whole."""
    return torch.cat([torch.rot90(images, quarter, (2, 3)) for quarter in range(4)])
