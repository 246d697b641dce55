"""SimCLR: two views of an image should be nearer to each other than to any other image of the batch.

Chen, Kornblith, Norouzi, Hinton, ICML 2020, https://arxiv.org/abs/2002.05709, section 2 and appendix A.
Decoupled loss: Yeh et al., ECCV 2022, https://arxiv.org/abs/2110.06848, equation 6.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.images import augment
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.system.distributed import gather
from lilliput.techniques import Technique, full_precision, mlp, own_places

MEASURED = 256  # images of a batch whose partners are looked for


class SimCLR(Technique):
    """Encoder and projector are trained by NT-Xent over the 2B views of a batch."""

    contrastive = "yes"
    paper = Recipe("lars", lr=0.3, batch=4096, epochs=100, weight_decay=1e-6, warmup=10)
    small = SMALL.replace(
        options={"temperature": 0.2, "strength": 0.5, "decoupled": True, "area": 0.2, "blur": 0.0},
    )
    large = LARGE.replace(options={"temperature": 0.2, "decoupled": True})

    def __init__(
        self,
        make_backbone,
        *,
        temperature: Annotated[float, "> 0"] = 0.1,
        strength: Annotated[float, ">= 0"] = 1.0,
        output: Annotated[int, ">= 1"] = 128,
        decoupled: bool = False,
        area: Annotated[float, "> 0, <= 1"] = 0.08,
        grey: Annotated[float, ">= 0, <= 1"] = 0.2,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
        small_views: Annotated[int, ">= 0"] = 0,
        small_area: Annotated[float, "> 0.05, <= 1"] = 0.3,
        small_weight: Annotated[float, ">= 0, <= 1"] = 0.6,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, self.encoder.dim, output, norm_last=True)  # as in the authors' code
        self.temperature, self.decoupled = temperature, decoupled
        self.strength, self.area, self.grey, self.blur = strength, area, grey, blur
        self.small_views, self.small_area, self.small_weight = small_views, small_area, small_weight

    def views(self, images, rng):
        whole = {"area": (self.area, 1.0)}
        views = self._view(images, rng, **whole), self._view(images, rng, **whole)
        return *views, *augment.small_views(self.small_views, self._view, images, rng, self.small_area)

    def _view(self, images, rng, **crop):
        s = self.strength
        images = augment.resized_crop(images, rng, **crop)
        images = augment.colour_jitter_(
            images, rng, brightness=0.8 * s, contrast=0.8 * s, saturation=0.8 * s, hue=0.2 * s
        )
        images = augment.grey_(images, rng, p=self.grey)
        return augment.blur_(images, rng, p=self.blur)

    def forward(self, one, two, small=None):
        one, two = map(gather, self.projector(self.encoder(torch.cat([one, two]))).chunk(2))
        self.measures["partners_found"] = partners_found(one[:MEASURED], two[:MEASURED])
        loss = nt_xent(one, two, temperature=self.temperature, decoupled=self.decoupled)
        if small is None:
            return loss
        small = torch.cat([gather(of_each) for of_each in self.projector(self.encoder(small)).chunk(self.small_views)])
        own = small_xent(small, one, two, temperature=self.temperature)
        return torch.lerp(loss, own, self.small_weight)

    def guessing(self, batch):
        whole, small = math.log(2 * batch - 1 - self.decoupled), math.log(batch)
        return whole + (small - whole) * self.small_weight if self.small_views else whole


@torch.no_grad()
def partners_found(one: Tensor, two: Tensor) -> Tensor:
    """Share of the 2B views [B, D] that are nearer to their image's other one than to all others."""
    z = F.normalize(torch.cat([one, two]).float(), dim=1)
    nearest = (z @ z.T).fill_diagonal_(-torch.inf).argmax(1)
    return (nearest == torch.arange(len(z), device=z.device).roll(len(one))).float().mean()


@full_precision
def nt_xent(one: Tensor, two: Tensor, *, temperature: float, decoupled: bool = False) -> Tensor:
    """Mean over the 2B views [B, D] of -log softmax of the partner's similarity among all other views.

    Decoupled: the partner is left out of the softmax's denominator.
    """
    z = F.normalize(torch.cat([one, two]), dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)  # [2B, 2B]
    partner = torch.arange(len(z), device=z.device).roll(len(one))  # i <-> i + B
    positive = similarity.gather(1, partner[:, None]).squeeze(1)
    if decoupled:
        similarity = similarity.scatter(1, partner[:, None], -torch.inf)
    return (similarity.logsumexp(1) - positive).mean()


@full_precision
def small_xent(small: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    """Mean over small views [S B, D] of -log softmax of their similarity to the mean of their image's two whole views
    [B, D], among those of all images; the means are no more than a target."""
    means = F.normalize(F.normalize(one, dim=1) + F.normalize(two, dim=1), dim=1).detach()
    similarity = F.normalize(small, dim=1) @ means.T / temperature
    return F.cross_entropy(similarity, own_places(small, means))
