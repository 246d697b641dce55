"""SIGReg (LeJEPA): views of an image should meet in their mean, and all projections be spread as a Gaussian is.

Balestriero, LeCun 2025, https://arxiv.org/abs/2511.08544, sections 4 and 5; the test of a Gaussian along one direction
is Epps and Pulley's, Biometrika 1983.
"""

from typing import Annotated

import torch
from torch import Tensor

from lilliput.images import augment
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system.distributed import gather
from lilliput.techniques import Technique, full_precision, mlp

REACH = 3.0  # up to which the characteristic functions are compared


class SIGReg(Technique):
    """One weight between the two demands; no negatives, no copy of the network, no predictor, no stop."""

    contrastive = "joint-embedding"
    paper = Recipe("adamw", lr=5e-4, lr_per_256=False, batch=256, epochs=100, weight_decay=0.05, beta2=0.999)
    small = SMALL.replace(options={"whole_views": 2, "hidden": 1024, "blur": 0.0, "area": 0.2})

    def __init__(
        self,
        make_backbone,
        *,
        weight: Annotated[float, ">= 0, <= 1"] = 0.02,
        whole_views: Annotated[int, ">= 2"] = 4,
        directions: Annotated[int, ">= 1"] = 256,
        knots: Annotated[int, ">= 2"] = 17,
        hidden: Annotated[int, ">= 1"] = 2048,
        output: Annotated[int, ">= 1"] = 16,
        area: Annotated[float, "> 0, <= 1"] = 0.08,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, hidden, hidden, output)
        self.weight, self.whole_views, self.directions, self.knots = weight, whole_views, directions, knots
        self.output, self.area, self.blur = output, area, blur

    def views(self, images, rng):
        directions = torch.randn(self.output, self.directions, device=rng.device, generator=rng)
        return directions, *(self._view(images, rng) for _ in range(self.whole_views))

    def _view(self, images, rng):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        images = augment.colour_jitter_(images, rng, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
        images = augment.grey_(images, rng, p=0.2)
        images = augment.blur_(images, rng, p=self.blur)
        return augment.solarise_(images, rng, p=0.2)

    def forward(self, directions, *views):
        projections = torch.stack([gather(self.projector(self.encoder(view))) for view in views])
        near = far_from_mean(projections)
        gaussian = far_from_gaussian(projections, directions, knots=self.knots)
        self.measures.update(invariance=near.detach(), sigreg=gaussian.detach())
        return torch.lerp(near, gaussian, self.weight)

    def guessing(self, batch):
        # all projections in one point, at 0: there cos is 1, and the test's integral that of (1 - phi)^2
        point = torch.zeros(1, batch, self.output)
        return self.weight * far_from_gaussian(point, torch.ones(self.output, 1), knots=self.knots).item()


@full_precision
def far_from_mean(projections: Tensor) -> Tensor:
    """[V, B, D] -> mean squared distance of the views' projections from their image's mean."""
    return (projections - projections.mean(0)).square().mean()


@full_precision
def far_from_gaussian(projections: Tensor, directions: Tensor, *, knots: int) -> Tensor:
    """[V, B, D] and [D, M] directions -> Epps and Pulley's statistic of each view along each direction, on average.

    B times the integral over t of |empirical characteristic function - that of N(0, 1)|^2, weighed by exp(-t^2 / 2),
    from -3 to 3 by trapezia.
    """
    t = torch.linspace(0, REACH, knots, device=projections.device)
    gaussian = (-t.square() / 2).exp()
    along = projections @ torch.nn.functional.normalize(directions, dim=0)  # [V, B, M]
    angles = along[..., None] * t
    gap = (angles.cos().mean(1) - gaussian).square() + angles.sin().mean(1).square()  # [V, M, knots]
    return 2 * len(projections[0]) * torch.trapezoid(gap * gaussian, t, dim=2).mean()
