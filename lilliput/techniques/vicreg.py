"""VICReg: two views' projections should be near; each feature should vary over a batch, and none with another.

Bardes, Ponce, LeCun, ICLR 2022, https://arxiv.org/abs/2105.04906, section 4 and appendix C.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.images import augment
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system.distributed import gather
from lilliput.techniques import Technique, full_precision, mlp

EPSILON = 1e-4  # the authors', within the root of a variance


class VICReg(Technique):
    """Invariance, variance and covariance, weighed; no negatives, no copy of the network, no predictor."""

    contrastive = "joint-embedding"
    paper = Recipe("lars", lr=0.2, batch=2048, epochs=1000, weight_decay=1e-6, warmup=10)
    small = SMALL.replace(options={"hidden": 1024, "output": 1024, "area": 0.2, "blur": 0.0})

    def __init__(
        self,
        make_backbone,
        *,
        invariance: Annotated[float, ">= 0"] = 25.0,
        variance: Annotated[float, ">= 0"] = 25.0,
        covariance: Annotated[float, ">= 0"] = 1.0,
        hidden: Annotated[int, ">= 1"] = 8192,
        output: Annotated[int, ">= 1"] = 8192,
        area: Annotated[float, "> 0, <= 1"] = 0.08,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, hidden, hidden, output, bias_last=False)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.area, self.blur = area, blur

    def views(self, images, rng):
        return self._view(images, rng), self._view(images, rng)

    def _view(self, images, rng):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        images = augment.grey_(images, rng, p=0.2)
        images = augment.blur_(images, rng, p=self.blur)
        return augment.solarise_(images, rng, p=0.1)

    def forward(self, one, two):
        one, two = (gather(self.projector(self.encoder(view))) for view in (one, two))
        near, spread, apart = terms(one, two)
        self.measures.update(invariance=near.detach(), variance=spread.detach(), covariance=apart.detach())
        return self.invariance * near + self.variance * spread + self.covariance * apart

    def guessing(self, batch):
        return self.variance * (1 - EPSILON**0.5)  # all projections in one point


@full_precision
def terms(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, D] each -> invariance, variance, covariance.

    Their mean squared distance, equation 5; how far features vary less than 1, equation 1, as the mean of both views;
    the squares of their covariances over D, equation 4, as the sum of both.
    """
    spread = torch.stack([(1 - (view.var(0) + EPSILON).sqrt()).relu().mean() for view in (one, two)]).mean()
    return F.mse_loss(one, two), spread, covariances(one) + covariances(two)


def covariances(features: Tensor) -> Tensor:
    """The sum of the squared covariances of different features, over their number."""
    centred = features - features.mean(0)
    matrix = centred.T @ centred / (len(features) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / features.shape[1]
