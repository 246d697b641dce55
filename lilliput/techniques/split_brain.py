"""Split-Brain autoencoder: one half of the network paints an image's colours, the other its lightness.

Zhang, Isola, Efros, CVPR 2017, https://arxiv.org/abs/1611.09842, section 3.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment, colour
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.system.distributed import total
from lilliput.techniques import Technique, counted, full_precision

HALF = 0.5  # one network split in two: each half has half the channels
CELL = 8  # pixels a side of what is painted: 12 x 12 cells at 96 px
UNIT = 25.0  # Lab steps to one unit of a backbone's input, about their spread in photographs


class Halves(nn.Module):
    """Two narrower backbones, one sees L and one ab; images [B, 3, H, W] in 0..1 -> both halves' features, joined."""

    def __init__(self, make_backbone):
        super().__init__()
        self.lightness = make_backbone(channels=1, width=HALF)
        self.colour = make_backbone(channels=2, width=HALF)
        self.dims = tuple(sum(pair) for pair in zip(self.lightness.dims, self.colour.dims, strict=True))
        self.strides = self.lightness.strides
        self.dim, self.stride = self.dims[-1], self.strides[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps of every stage, the halves' channels side by side: [B, dims[i], h_i, w_i]."""
        lightness, ab = split_lab(colour.rgb_to_lab(images))
        pairs = zip(self.lightness.stages(lightness), self.colour.stages(ab), strict=True)
        return [torch.cat(pair, dim=1) for pair in pairs]

    def maps(self, images: Tensor) -> Tensor:
        return self.stages(images)[-1]

    def compile(self, *arguments, **named):
        """As torch's, of each half: the technique calls them one by one."""
        self.lightness.compile(*arguments, **named)
        self.colour.compile(*arguments, **named)

    def forward(self, images):
        lightness, ab = split_lab(colour.rgb_to_lab(images))
        return torch.cat([self.lightness(lightness), self.colour(ab)], dim=1)


class SplitBrain(Technique):
    """Cross-entropy, cell by cell, over 313 bins of ab seen from L and 50 bins of L seen from ab."""

    contrastive = "no"
    paper = Recipe("sgd", lr=0.1, batch=256, epochs=100, weight_decay=1e-4, schedule="steps")
    small = SMALL.replace(optimiser="sgd", lr=0.1)
    large = LARGE.replace(lr=0.1)

    def __init__(
        self, make_backbone, *, hidden: Annotated[int, ">= 1"] = 64, area: Annotated[float, "> 0, <= 1"] = 0.3
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.paint_colour = Painter(self.encoder.lightness.dim, hidden, len(colour.gamut_points()))
        self.paint_lightness = Painter(self.encoder.colour.dim, hidden, colour.LIGHTNESS_BINS)
        self.area = area

    @staticmethod
    def build_encoder(make_backbone):
        return Halves(make_backbone)

    def views(self, images, rng):
        return (augment.resized_crop(images, rng, area=(self.area, 1.0)),)

    def forward(self, images):
        lab = colour.rgb_to_lab(images)
        lightness, ab = split_lab(lab)
        cells = F.avg_pool2d(lab, CELL, ceil_mode=True)
        colour_bins, lightness_bins = colour.colour_bins(cells[:, 1:]), colour.lightness_bins(cells[:, :1])
        ab_loss = self._score("colour", self.paint_colour, self.encoder.lightness.maps(lightness), colour_bins)
        l_loss = self._score("lightness", self.paint_lightness, self.encoder.colour.maps(ab), lightness_bins)
        guesses = self.paint_colour.guess(colour_bins), self.paint_lightness.guess(lightness_bins)
        self.measures["loss_of_guessing"] = guesses[0] + guesses[1]
        return ab_loss + l_loss

    def _score(self, what, painter, maps, bins):
        counts = total(counted(bins, painter.bins))
        painter.start(counts)
        logits = painter(maps, bins.shape[-2:])
        self.measures[f"{what}_told"] = (logits.argmax(1) == bins).float().mean()
        # what always naming the batch's most common bin would reach: a network that sits on grey does no better
        self.measures[f"{what}_told_by_majority"] = (bins == counts.argmax()).float().mean()
        # one row for each cell: the loss of maps has no deterministic kernel on CUDA
        return full_precision(F.cross_entropy)(logits.movedim(1, -1).flatten(0, -2), bins.flatten())


class Painter(nn.Module):
    """Maps of stride 32 [B, dim, h, w] -> logits of the bins [B, bins, 4h, 4w], brought to the cells' size."""

    started: Tensor
    common: Tensor

    def __init__(self, dim: int, hidden: int, bins: int):
        super().__init__()
        self.bins = bins
        self.spread = nn.Conv2d(dim, hidden * 16, 1)
        self.name = nn.Conv2d(hidden, bins, 1)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.register_buffer("common", torch.zeros(bins))

    @torch.no_grad()
    def start(self, counts):
        """Guess as often as the first batch shows each bin: else the maps flatten to learn first what is common.

        Later ones change nothing; which it is, is left to the device, as nobody waits for it.
        """
        bias = self.name.get_parameter("bias")
        self.common.copy_(torch.where(self.started, self.common, ((counts + 1) / (counts + 1).sum()).log()))
        bias.copy_(torch.where(self.started, bias, self.common))
        self.started.fill_(True)

    def guess(self, bins):
        """The loss of naming bins by nothing but how common they were at the start."""
        return -self.common[bins].mean()

    def forward(self, maps, size):
        spread = F.relu(F.pixel_shuffle(self.spread(maps), 4))
        if spread.shape[-2:] != size:  # a backbone of another stride, or a size that 32 does not divide
            spread = F.interpolate(spread, size, mode="bilinear", align_corners=False)
        return self.name(spread)


def split_lab(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Lab -> what the halves see: L centred and ab, in units that their backbones' normalisation turns into 25 Lab."""
    return (lab[:, :1] - 50) / (4 * UNIT) + 0.5, lab[:, 1:] / (4 * UNIT) + 0.5
