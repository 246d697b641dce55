"""SwAV: tell from one view the code that another view of the image got when a batch was dealt out evenly to prototypes.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, NeurIPS 2020, https://arxiv.org/abs/2006.09882, section 3 and
appendix A; the balanced codes are Sinkhorn and Knopp's, as in Cuturi, NeurIPS 2013.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.system.distributed import gather, own
from lilliput.techniques import Technique, counted, full_precision, mlp

ROUNDS = 3  # of Sinkhorn and Knopp


class SwAV(Technique):
    """Views are told by their similarity to learned prototypes; past projections help to deal a small batch evenly."""

    queue: Tensor  # [2, K, output], the projections of each whole view
    kept: Tensor  # how many places of the queue are filled
    in_use: Tensor  # whether it helps to deal the next batch

    contrastive = "joint-embedding"
    paper = Recipe("lars", lr=0.3, batch=4096, epochs=400, weight_decay=1e-6, warmup=10)
    # In a batch of tens, codes as soft as the paper's let a small network make all of them alike, from where no
    # gradient leads (NOTEBOOK.md): so they are as good as hard.
    small = SMALL.replace(
        options={"prototypes": 128, "evenness": 0.005, "temperature": 0.2, "hidden": 1024}
        | {"small_views": 2, "area": 0.3, "blur": 0.0}
    )
    large = LARGE.replace(options={"prototypes": 1000, "queue": 3840})

    def __init__(
        self,
        make_backbone,
        *,
        prototypes: Annotated[int, ">= 2"] = 3000,
        temperature: Annotated[float, "> 0"] = 0.1,
        evenness: Annotated[float, "> 0"] = 0.05,
        queue: Annotated[int, ">= 0"] = 0,
        from_share: Annotated[float, ">= 0, <= 1"] = 0.04,
        hidden: Annotated[int, ">= 1"] = 2048,
        output: Annotated[int, ">= 1"] = 128,
        area: Annotated[float, "> 0, <= 1"] = 0.14,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
        small_views: Annotated[int, ">= 0"] = 6,
        small_area: Annotated[float, "> 0.05, <= 1"] = 0.14,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, hidden, output)
        self.prototypes = nn.Linear(output, prototypes, bias=False)
        self.temperature, self.evenness, self.from_share = temperature, evenness, from_share
        self.area, self.blur, self.small_views, self.small_area = area, blur, small_views, small_area
        self.register_buffer("queue", torch.zeros(2, queue, output))
        self.register_buffer("kept", torch.zeros((), dtype=torch.long))
        self.register_buffer("in_use", torch.zeros((), dtype=torch.bool))
        self._to_unit_length()

    def views(self, images, rng):
        whole = {"area": (self.area, 1.0)}
        views = self._view(images, rng, **whole), self._view(images, rng, **whole)
        return *views, *augment.small_views(self.small_views, self._view, images, rng, self.small_area)

    def _view(self, images, rng, **crop):
        images = augment.resized_crop(images, rng, **crop)
        images = augment.colour_jitter_(images, rng, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
        images = augment.grey_(images, rng, p=0.2)
        return augment.blur_(images, rng, p=self.blur)

    def forward(self, one, two, small=None):
        one, two = self._project(one), self._project(two)
        self.projected = torch.stack([gather(one.detach()), gather(two.detach())])  # of the whole batch
        similar = [similarity(view, self.prototypes.weight) for view in (one, two)]
        codes = [self._dealt(gather(view.detach()), past) for view, past in zip(similar, self.queue, strict=True)]
        self.measures["prototypes_used"] = used(codes[0])
        small_ones = [] if small is None else similarity(self._project(small), self.prototypes.weight).split(len(one))
        losses = [
            told(view, code, temperature=self.temperature)
            for code, other in zip(map(own, codes), reversed(similar), strict=True)
            for view in (other, *small_ones)
        ]
        return torch.stack(losses).mean()

    def _project(self, view):
        return self.projector(self.encoder(view))

    @torch.no_grad()
    def _dealt(self, similar: Tensor, past: Tensor) -> Tensor:
        """The codes of a batch, which is dealt out together with the past where the queue is full and in use."""
        alone = dealt_evenly(similar, evenness=self.evenness)
        if not len(past):
            return alone
        together = torch.cat([similar, similarity(past, self.prototypes.weight)])
        # both, and the device takes the one: to ask it which would be to wait for it
        return torch.where(self.in_use, dealt_evenly(together, evenness=self.evenness)[: len(alone)], alone)

    def guessing(self, batch):
        return math.log(len(self.prototypes.weight))  # all prototypes alike

    @torch.no_grad()
    def after_step(self, progress):
        super().after_step(progress)
        self._to_unit_length()
        if size := self.queue.shape[1]:
            self.queue.copy_(torch.cat([self.projected, self.queue], dim=1)[:, :size])
            self.kept.add_(self.projected.shape[1]).clamp_(max=size)
            self.in_use.copy_((self.kept == size) & (progress >= self.from_share))

    @torch.no_grad()
    def _to_unit_length(self):
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))


@full_precision
def similarity(projections: Tensor, prototypes: Tensor) -> Tensor:
    """[B, D] and [K, D] of unit length -> cosines [B, K]."""
    return F.normalize(projections, dim=1) @ prototypes.T


@full_precision
def dealt_evenly(similar: Tensor, *, evenness: float) -> Tensor:
    """[B, K] -> codes [B, K]: rows sum to 1, and columns, as nearly as so many rounds bring them, to B / K.

    Equation 3 by the iteration of section 3.1, from exp(similarity / evenness).
    """
    codes = similar / evenness  # their logarithms: of what is far from all images exp is zero, which no sum lifts
    for _ in range(ROUNDS):
        codes = codes.log_softmax(0).log_softmax(1)
    return codes.exp()


@full_precision
def told(similar: Tensor, codes: Tensor, *, temperature: float) -> Tensor:
    """Mean of -sum codes log softmax(similarity / temperature), [B, K] each; equation 2."""
    return -(codes * (similar / temperature).log_softmax(1)).sum(1).mean()


def used(codes: Tensor) -> Tensor:
    """The share of the prototypes that are some image's first."""
    return (counted(codes.argmax(1), codes.shape[1]) > 0).float().mean()
