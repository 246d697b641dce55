"""Counting: what is counted in an image should be the sum of what is counted in its four quarters.

Noroozi, Pirsiavash, Favaro, ICCV 2017, https://arxiv.org/abs/1708.06734, section 3.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system import distributed
from lilliput.techniques import Technique, full_precision, mlp


class Counting(Technique):
    """One network counts in the image at half its size and in each quarter; another image's counts must differ."""

    contrastive = "no"
    pieces = True
    paper = Recipe("sgd", lr=1e-4, lr_per_256=False, batch=128, epochs=200, weight_decay=5e-4)
    small = SMALL.replace(options={"output": 128, "hidden": 512}, rates={"count": 0.02})

    def __init__(
        self,
        make_backbone,
        *,
        margin: Annotated[float, ">= 0"] = 10.0,
        hidden: Annotated[int, ">= 1"] = 4096,
        output: Annotated[int, ">= 1"] = 1000,
        area: Annotated[float, "> 0, <= 1"] = 0.3,
        grey: Annotated[float, ">= 0, <= 1"] = 0.5,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.count = nn.Sequential(mlp(self.encoder.dim, hidden, output), nn.ReLU())
        # a sum of four counts begins within the margin: beyond it all counts are drawn to zero, for good
        weight, bias = [*self.count.parameters()][-2:]
        nn.init.normal_(weight, std=(margin / hidden / output) ** 0.5 / 4)
        nn.init.zeros_(bias)
        self.margin, self.area, self.grey = margin, area, grey

    def views(self, images, rng):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        return (augment.grey_(images, rng, p=self.grey),)

    def forward(self, images):
        side = images.shape[2] // 2
        whole = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        counts = self.count(self.encoder(torch.cat([whole, *quarters(images, side)]))).chunk(5)
        return miscounted(counts[0], torch.stack(counts[1:]).sum(0), margin=self.margin)

    def guessing(self, batch):
        return self.margin  # counts of nothing anywhere


def quarters(images: Tensor, side: int) -> list[Tensor]:
    return [images[:, :, top : top + side, left : left + side] for top in (0, side) for left in (0, side)]


@full_precision
def miscounted(whole: Tensor, parts: Tensor, *, margin: float) -> Tensor:
    """[B, D] each -> mean of |whole - parts|^2 + (margin - |another image's whole - parts|^2) where that is positive.

    Equation 6.
    """
    others = distributed.own(distributed.gather(whole).roll(1, 0))
    own, other = ((counts - parts).square().sum(1) for counts in (whole, others))
    return (own + (margin - other).relu()).mean()
