"""Barlow Twins: the outputs of two views should agree, feature by feature, and no feature should tell of another.

Zbontar, Jing, Misra, LeCun, Deny, ICML 2021, https://arxiv.org/abs/2103.03230, section 2 and appendix A.
"""

from typing import Annotated

from torch import Tensor

from lilliput.images import augment
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system.distributed import gather
from lilliput.techniques import Technique, full_precision, mlp

EPSILON = 1e-5  # of a feature's variance over a batch


class BarlowTwins(Technique):
    """The cross-correlation of the two views' projections is driven to the identity.

    `scale` multiplies the loss, a sum over all outputs: LARS does not feel it, other optimisers do.
    """

    contrastive = "joint-embedding"
    paper = Recipe("lars", lr=0.2, batch=2048, epochs=1000, weight_decay=1.5e-6, warmup=10, vector_rate=0.024)
    small = SMALL.replace(options={"hidden": 1024, "output": 1024, "scale": 0.001, "area": 0.2, "blur": 0.0})

    def __init__(
        self,
        make_backbone,
        *,
        redundancy: Annotated[float, ">= 0"] = 0.005,
        scale: Annotated[float, "> 0"] = 1.0,
        hidden: Annotated[int, ">= 1"] = 8192,
        output: Annotated[int, ">= 1"] = 8192,
        area: Annotated[float, "> 0, <= 1"] = 0.08,
        blur: Annotated[float, ">= 0, <= 1"] = 1.0,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, hidden, hidden, output, bias_last=False)
        self.redundancy, self.scale, self.output, self.area, self.blur = redundancy, scale, output, area, blur

    def views(self, images, rng):
        one = self._view(images, rng, blur=self.blur, solarise=0.0)
        return one, self._view(images, rng, blur=self.blur / 10, solarise=0.2)

    def _view(self, images, rng, *, blur, solarise):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        images = augment.grey_(images, rng, p=0.2)
        images = augment.blur_(images, rng, p=blur)
        return augment.solarise_(images, rng, p=solarise)

    def forward(self, one, two):
        one, two = (gather(self.projector(self.encoder(view))) for view in (one, two))
        return self.scale * barlow(one, two, redundancy=self.redundancy)

    def guessing(self, batch):
        # of outputs that have nothing to do with each other: a correlation over B images is then 0 +- 1 / sqrt(B)
        return self.scale * self.output * (1 + (1 + self.redundancy * (self.output - 1)) / batch)


@full_precision
def barlow(one: Tensor, two: Tensor, *, redundancy: float) -> Tensor:
    """[B, D] each -> sum of (1 - C_ii)^2 + redundancy * sum of C_ij^2, C their cross-correlation; equation 1."""
    correlation = standardised(one).T @ standardised(two) / len(one)
    own = correlation.diagonal()
    return (1 - own).square().sum() + redundancy * (correlation.square().sum() - own.square().sum())


def standardised(features: Tensor) -> Tensor:
    """Every feature with mean 0 and variance 1 over the batch."""
    centred = features - features.mean(0)
    return centred / (centred.square().mean(0) + EPSILON).sqrt()
