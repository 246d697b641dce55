"""Inpainting: paint what was cut out of an image, from what is around it.

Pathak, Krahenbuhl, Donahue, Darrell, Efros, CVPR 2016, https://arxiv.org/abs/1604.07379, section 3; the gradient that
turns its sign between painter and judge: Ganin, Lempitsky, ICML 2015.
"""

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.errors import BadSetting
from lilliput.images import augment, draws
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system.distributed import total
from lilliput.techniques import Technique, constant, full_precision

MEAN = (0.485, 0.456, 0.406)  # of photographs, by ImageNet's; what is cut out is filled with it
SIDES = (1 / 8, 1 / 4)  # of a block, as shares of the image's


class Inpainting(Technique):
    """Squares are cut out of an image; encoder and painter bring them back, in the eyes of a judge if it is asked."""

    contrastive = "no"
    paper = Recipe("adamw", lr=2e-4, lr_per_256=False, batch=64, epochs=100, weight_decay=0.0, beta2=0.999)
    small = SMALL

    def __init__(
        self,
        make_backbone,
        *,
        blocks: Annotated[int, ">= 1"] = 4,
        hidden: Annotated[int, ">= 1"] = 256,
        adversarial: Annotated[float, ">= 0, < 1"] = 0.0,
        area: Annotated[float, "> 0, <= 1"] = 0.3,
    ):
        super().__init__()
        if not 0 <= adversarial < 1:
            raise BadSetting(f"adversarial {adversarial} must be a share, 0 <= adversarial < 1")
        self.encoder = self.build_encoder(make_backbone)
        self.paint = painter(self.encoder.dim, hidden, self.encoder.stride)
        self.judge = judge(hidden) if adversarial else None
        self.blocks, self.adversarial, self.area = blocks, adversarial, area

    def views(self, images, rng):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        return images, cut_out(len(images), self.blocks, images.shape[2], rng)

    def forward(self, images, cut):
        fill = constant(MEAN, images.device)[:, None, None]
        shown = torch.where(cut, fill, images)
        painted = fill + self.paint(self.encoder.maps(shown)).float()
        if painted.shape[-2:] != images.shape[-2:]:
            painted = F.interpolate(painted, images.shape[-2:], mode="bilinear", align_corners=False)
        loss = missed(images, painted, cut)
        around = (shown * ~cut).sum((2, 3), keepdim=True) / (~cut).sum((2, 3), keepdim=True).clamp(min=1)
        guessing = missed(images, around.expand_as(images), cut)
        if self.judge is not None:
            told = self._judged(self.judge, images, torch.where(cut, painted, images))
            loss, guessing = (told + (1 - self.adversarial) * own for own in (loss, guessing))
            guessing = guessing - told.detach() + 2 * math.log(2)
        self.measures["loss_of_guessing"] = guessing
        return loss

    def _judged(self, judge: nn.Module, images: Tensor, painted: Tensor) -> Tensor:
        """The judge's loss in telling images from painted ones, which the painter is to make as large as it can."""
        real, made = judge(images), judge(_Turned.apply(painted, self.adversarial))
        return full_precision(lambda real, made: F.softplus(-real).mean() + F.softplus(made).mean())(real, made)


def painter(dim: int, hidden: int, stride: int) -> nn.Sequential:
    """Maps [B, dim, H / stride, W / stride] -> images [B, 3, H, W], twice as large and half as wide at each step."""
    steps = max(1, round(math.log2(stride)))
    widths = [hidden, *(max(16, hidden // 2**step) for step in range(1, steps))]
    layers: list[nn.Module] = [nn.Conv2d(dim, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True)]
    for inputs, outputs in pairwise(widths):
        up = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        layers += [up, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1))


def judge(hidden: int) -> nn.Sequential:
    """Images [B, 3, H, W] -> a score for each place of a grid, higher for real ones."""
    widths = [3, max(1, hidden // 4), max(1, hidden // 2), hidden]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(hidden, 1, 1))


class _Turned(torch.autograd.Function):
    """As it is; its gradient is multiplied by -share."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, share: float) -> Tensor:
        ctx.share = share
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.share * gradients[0], None


def cut_out(count: int, blocks: int, size: int, rng: torch.Generator) -> Tensor:
    """bool [B, 1, size, size]: squares at random places, which may overlap; paper's figure 3b."""
    low, high = (share * size for share in SIDES)
    side = draws.uniform((count, blocks, 1), low, high, rng).round().clamp(min=1)
    first = (draws.shares((count, blocks, 2), rng) * (size - side + 1)).floor()
    place = torch.arange(size, device=rng.device)
    within = (place >= first[..., None]) & (place < (first + side)[..., None])  # [B, blocks, axis, size]
    return (within[:, :, 0, :, None] & within[:, :, 1, None, :]).any(1, keepdim=True)


@full_precision
def missed(images: Tensor, painted: Tensor, cut: Tensor) -> Tensor:
    """[B, 3, H, W] twice, [B, 1, H, W] -> mean squared difference over what was cut out; equation 1."""
    return total((cut * (images - painted).square()).sum()) / (3 * total(cut.sum()))
