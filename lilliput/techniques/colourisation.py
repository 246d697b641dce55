"""Colourisation: from an image's lightness, paint its colours; rare colours count for more.

Zhang, Isola, Efros, ECCV 2016, https://arxiv.org/abs/1603.08511, section 2.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment, colour
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system.distributed import total
from lilliput.techniques import Technique, counted, full_precision
from lilliput.techniques.split_brain import CELL, Painter, split_lab

NEAREST, SIGMA = 5, 5.0  # bins that share in a colour, and Lab steps by which their share falls


class OfLightness(nn.Module):
    """A backbone that sees no more than L: images [B, 3, H, W] in 0..1 -> its features."""

    def __init__(self, make_backbone):
        super().__init__()
        self.lightness = make_backbone(channels=1)
        self.dims, self.strides = self.lightness.dims, self.lightness.strides
        self.dim, self.stride = self.dims[-1], self.strides[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps of every stage, [B, dims[i], h_i, w_i]."""
        return self.lightness.stages(split_lab(colour.rgb_to_lab(images))[0])

    def maps(self, images: Tensor) -> Tensor:
        return self.stages(images)[-1]

    def compile(self, *arguments, **named):
        """As torch's, of the backbone."""
        self.lightness.compile(*arguments, **named)

    def forward(self, images):
        return self.lightness(split_lab(colour.rgb_to_lab(images))[0])


class Colourisation(Technique):
    """Cross-entropy, cell by cell, with the colours near the true one, weighed by how rare it is."""

    shown: Tensor  # [313], how many cells of each colour the training has had

    contrastive = "no"
    paper = Recipe("adamw", lr=3.16e-5, lr_per_256=False, batch=40, epochs=14, weight_decay=1e-3, beta2=0.99)
    small = SMALL.replace(optimiser="sgd", lr=0.1)

    def __init__(
        self,
        make_backbone,
        *,
        hidden: Annotated[int, ">= 1"] = 64,
        evened: Annotated[float, "> 0, <= 1"] = 0.5,
        area: Annotated[float, "> 0, <= 1"] = 0.3,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.paint = Painter(self.encoder.dim, hidden, len(colour.gamut_points()))
        self.register_buffer("shown", torch.zeros(len(colour.gamut_points())))
        self.evened, self.area = evened, area

    @staticmethod
    def build_encoder(make_backbone):
        return OfLightness(make_backbone)

    def views(self, images, rng):
        return (augment.resized_crop(images, rng, area=(self.area, 1.0)),)

    def forward(self, images):
        ab = F.avg_pool2d(colour.rgb_to_lab(images), CELL, ceil_mode=True)[:, 1:]
        bins = colour.colour_bins(ab)
        counts = total(counted(bins, self.paint.bins))
        self.paint.start(counts)
        self.shown += counts
        weights = rarity(self.shown, evened=self.evened)[bins]
        logits = self.paint(self.encoder.maps(images), bins.shape[-2:])
        self.measures["colour_told"] = (logits.argmax(1) == bins).float().mean()
        self.measures["colour_told_by_majority"] = (bins == counts.argmax()).float().mean()
        wanted = near_bins(ab)
        self.measures["loss_of_guessing"] = painted(self.paint.common[None, :, None, None], wanted, weights)
        return painted(logits, wanted, weights)


def near_bins(ab: Tensor) -> Tensor:
    """[B, 2, H, W] ab -> [B, 313, H, W]: shares of the nearest bins, by a Gaussian of their distance; sum to 1."""
    points = colour.gamut_points(ab.device)
    distance, place = torch.cdist(ab.movedim(1, -1), points).topk(NEAREST, largest=False)
    shares = (-distance.square() / (2 * SIGMA**2)).softmax(-1)
    return torch.zeros(*place.shape[:-1], len(points), device=ab.device).scatter(-1, place, shares).movedim(-1, 1)


def rarity(shown: Tensor, *, evened: float) -> Tensor:
    """How often each bin was shown, [313] -> its weight, equation 4: 1 on average over what was shown.

    The reciprocal of its share, smoothed by a Gaussian over its neighbours and mixed with an even one.
    """
    points = colour.gamut_points(shown.device)
    kernel = (-torch.cdist(points, points).square() / (2 * SIGMA**2)).exp()
    smooth = kernel / kernel.sum(0) @ (shown / shown.sum())
    weights = 1 / ((1 - evened) * smooth + evened / len(shown))
    return weights / (smooth * weights).sum()


@full_precision
def painted(logits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """[B, 313, H, W] twice and [B, H, W] -> mean over cells of weight times -sum wanted log softmax; equation 2."""
    return -(weights * (wanted * logits.log_softmax(1)).sum(1)).mean()
