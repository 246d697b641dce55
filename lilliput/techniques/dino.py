"""DINO: say of any view what a slow copy of the network, centred and sharpened, says of the image's whole views.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, ICCV 2021, https://arxiv.org/abs/2104.14294, section 3 and
appendix C.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.system.distributed import size, total
from lilliput.techniques import Technique, frozen_copy, full_precision, move_towards
from lilliput.techniques.byol import target_rate

WARM_UP = 0.3  # share of training in which the teacher's temperature rises


class DINO(Technique):
    """Student and teacher are one network and its moving average; centre and temperature keep them from collapse."""

    centre: Tensor  # [output], the moving average of what the teacher says
    sharp: Tensor  # the teacher's temperature

    contrastive = "joint-embedding"
    paper = Recipe("sgd", lr=0.03, batch=1024, epochs=100, weight_decay=1e-4, warmup=10)
    # A small network's features are much alike at first: without batch norm in the head, or with a teacher as soft as
    # the paper's, all images come to be told alike, from where no gradient leads (NOTEBOOK.md).
    small = SMALL.replace(
        options={"coldest": 0.01, "warmest": 0.01, "norm": True, "output": 256, "hidden": 1024}
        | {"small_views": 2, "area": 0.3, "small_area": 0.3, "blur": 0.0}
    )
    large = LARGE.replace(options={"output": 4096})

    def __init__(
        self,
        make_backbone,
        *,
        momentum: Annotated[float, ">= 0, <= 1"] = 0.996,
        centring: Annotated[float, ">= 0, < 1"] = 0.9,
        temperature: Annotated[float, "> 0"] = 0.1,
        coldest: Annotated[float, "> 0"] = 0.04,
        warmest: Annotated[float, "> 0"] = 0.07,
        hidden: Annotated[int, ">= 1"] = 2048,
        narrow: Annotated[int, ">= 1"] = 256,
        output: Annotated[int, ">= 2"] = 65536,
        norm: bool = False,
        area: Annotated[float, "> 0, <= 1"] = 0.14,
        blur: Annotated[float, ">= 0, <= 1"] = 1.0,
        small_views: Annotated[int, ">= 0"] = 6,
        small_area: Annotated[float, "> 0.05, <= 1"] = 0.14,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.head = Head(self.encoder.dim, hidden, narrow, output, norm=norm)
        self.teacher = frozen_copy(nn.Sequential(self.encoder, self.head))
        self.momentum, self.centring, self.temperature = momentum, centring, temperature
        self.coldest, self.warmest = coldest, warmest
        self.area, self.blur, self.small_views, self.small_area = area, blur, small_views, small_area
        self.register_buffer("centre", torch.zeros(output))
        self.register_buffer("sharp", torch.tensor(coldest))

    def views(self, images, rng):
        whole = {"area": (self.area, 1.0)}
        one = self._view(images, rng, blur=self.blur, **whole)
        two = self._view(images, rng, blur=self.blur / 10, solarise=0.2, **whole)
        return one, two, *augment.small_views(self.small_views, self._view, images, rng, self.small_area)

    def _view(self, images, rng, *, blur=None, solarise=0.0, **crop):
        images = augment.resized_crop(images, rng, **crop)
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        images = augment.grey_(images, rng, p=0.2)
        images = augment.blur_(images, rng, p=self.blur / 2 if blur is None else blur)
        return augment.solarise_(images, rng, p=solarise)

    def forward(self, one, two, small=None):
        with torch.no_grad():
            self.said = torch.stack([self.teacher(one), self.teacher(two)]).float()
            wanted = ((self.said - self.centre) / self.sharp).softmax(2)
            self.measures["entropy"] = -(wanted * wanted.clamp(min=1e-12).log()).sum(2).mean()
        whole = [self.head(self.encoder(view)) for view in (one, two)]
        parts = [] if small is None else self.head(self.encoder(small)).split(len(one))
        losses = [
            cross_entropy(said, wanted[number], temperature=self.temperature)
            for number in (0, 1)
            for said in (whole[1 - number], *parts)
        ]
        return torch.stack(losses).mean()

    def guessing(self, batch):
        return math.log(len(self.centre))  # all outputs alike

    @torch.no_grad()
    def after_step(self, progress):
        super().after_step(progress)
        share = 1 - target_rate(progress, self.momentum)
        move_towards(self.teacher[0], self.encoder, share)
        move_towards(self.teacher[1], self.head, share)
        self.centre.lerp_(total(self.said.mean((0, 1))) / size(), 1 - self.centring)
        self.sharp.fill_(self.coldest + (self.warmest - self.coldest) * min(1.0, progress / WARM_UP))


class Head(nn.Module):
    """Three layers to a narrow output of unit length, and from there a layer of directions of unit length.

    `norm`: batch norm before each GELU, as an option of the authors' code.
    """

    def __init__(self, inputs: int, hidden: int, narrow: int, output: int, *, norm: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for before in (inputs, hidden):
            layers.append(nn.Linear(before, hidden, bias=not norm))
            layers += [nn.BatchNorm1d(hidden)] * norm + [nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, narrow))
        self.directions = nn.Linear(narrow, output, bias=False)

    def forward(self, features):
        return _along(self.layers(features), self.directions.weight)


@full_precision
def _along(features: Tensor, directions: Tensor) -> Tensor:
    return F.linear(F.normalize(features, dim=1), F.normalize(directions, dim=1))


@full_precision
def cross_entropy(said: Tensor, wanted: Tensor, *, temperature: float) -> Tensor:
    """Student's outputs [B, K] and the teacher's probabilities [B, K] -> -sum wanted log softmax(said / T), mean."""
    return -(wanted * (said / temperature).log_softmax(1)).sum(1).mean()
