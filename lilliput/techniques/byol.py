"""BYOL: predict what a slowly moving copy of the network says of another view; no negatives.

Grill et al., NeurIPS 2020, https://arxiv.org/abs/2006.07733, section 3 and appendices A, B.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.techniques import Technique, frozen_copy, full_precision, mlp, move_towards, own_places, spread


class BYOL(Technique):
    """Online encoder, projector and predictor chase the target's projection of the other view, both ways round."""

    contrastive = "joint-embedding"
    paper = Recipe(
        "lars",
        lr=0.2,
        batch=4096,
        epochs=1000,
        weight_decay=1.5e-6,
        warmup=10,
        presets={  # of the authors' code, byol/configs/byol.py
            40: {"lr": 0.45, "weight_decay": 1e-6, "options": {"tau": 0.97}},
            100: {"lr": 0.45, "weight_decay": 1e-6, "options": {"tau": 0.99}},
            300: {"lr": 0.3, "weight_decay": 1e-6, "options": {"tau": 0.99}},
        },
    )
    small = SMALL.replace(
        options={"tau": 0.99, "hidden": 1024, "area": 0.2, "blur": 0.0, "norm": True},
        bare={**SMALL.bare, "lr": 2.5e-4, "rates": {"predictor": 10.0}},
    )
    large = LARGE.replace(
        options={"tau": 0.99, "hidden": 1024},
        bare={**LARGE.bare, "lr": 7e-4, "rates": {"predictor": 10.0}},
    )

    def __init__(
        self,
        make_backbone,
        *,
        tau: Annotated[float, ">= 0, <= 1"] = 0.996,
        hidden: Annotated[int, ">= 1"] = 4096,
        output: Annotated[int, ">= 1"] = 256,
        area: Annotated[float, "> 0, <= 1"] = 0.08,
        blur: Annotated[float, ">= 0, <= 1"] = 1.0,
        norm: bool = False,
        small_views: Annotated[int, ">= 0"] = 0,
        small_area: Annotated[float, "> 0.05, <= 1"] = 0.3,
        small_weight: Annotated[float, ">= 0, <= 1"] = 0.6,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, hidden, output, norm_last=norm, bias_last=False)
        self.predictor = mlp(output, hidden, output, bias_last=False)
        self.target = frozen_copy(nn.Sequential(self.encoder, self.projector))
        self.tau, self.area, self.blur = tau, area, blur
        self.small_views, self.small_area, self.small_weight = small_views, small_area, small_weight

    def views(self, images, rng):
        whole = {"area": (self.area, 1.0)}
        one = self._view(images, rng, blur=self.blur, solarise=0.0, **whole)
        two = self._view(images, rng, blur=self.blur / 10, solarise=0.2, **whole)
        return one, two, *augment.small_views(self.small_views, self._view, images, rng, self.small_area)

    def _view(self, images, rng, *, blur=0.0, solarise=0.0, **crop):
        images = augment.resized_crop(images, rng, **crop)
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        images = augment.grey_(images, rng, p=0.2)
        images = augment.blur_(images, rng, p=blur)
        return augment.solarise_(images, rng, p=solarise)

    def forward(self, one, two, small=None):
        with torch.no_grad():
            target_one, target_two = self.target(one), self.target(two)
        self.measures["spread"] = spread(target_one)
        loss = regression(self._predict(one), target_two) + regression(self._predict(two), target_one)
        if small is None:
            return loss
        target = F.normalize(target_one, dim=1) + F.normalize(target_two, dim=1)
        own = 2 * regression(self._predict(small), target[own_places(small, target)])
        return torch.lerp(loss, own, self.small_weight)

    def guessing(self, batch):
        return 4.0  # two distances between directions that have nothing to do with each other

    def _predict(self, view):
        return self.predictor(self.projector(self.encoder(view)))

    def after_step(self, progress):
        super().after_step(progress)
        tau = target_rate(progress, self.tau)
        move_towards(self.target[0], self.encoder, 1 - tau)
        move_towards(self.target[1], self.projector, 1 - tau)


def target_rate(progress: float, base: float) -> float:
    """tau of the paper's equation in section 3.3: from `base` to 1 by a cosine as `progress` goes from 0 to 1."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


@full_precision
def regression(prediction: Tensor, target: Tensor) -> Tensor:
    """[B, D] each -> mean squared distance of the normalised vectors: 2 - 2 cos, 0..4."""
    return (2 - 2 * F.cosine_similarity(prediction, target)).mean()
