"""SSDLite on an encoder's maps: those of its stages from a stride of 16 on, then of further halvings.

Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381, section 6.2: prediction layers, and the layers beyond the
network's last, are depthwise. Head, default boxes, loss and suppression are torchvision's, all with its settings.
"""

from collections import OrderedDict
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation

from lilliput.errors import BadSetting
from lilliput.system.modes import evaluating
from lilliput.system.plan import Plan

FIRST_STRIDE = 16  # pixels to a place of the first map that boxes are found on
EXTRA = 256  # channels of the maps beyond the encoder's
MOST_MAPS = 6
RATIOS = (2, 3)  # of the sides of default boxes, beside squares
NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.1)  # torchvision's momentum, 0.03, is for thousands of steps


class Pyramid(nn.Module):
    """Images [B, 3, S, S] in 0..1 -> maps of the encoder from FIRST_STRIDE on, then of halvings, up to a single place.

    An encoder that is not `tuned` stays as it is: no gradient reaches it, and it never leaves eval mode.
    """

    def __init__(self, encoder: Any, size: int, *, tuned: bool, plan: Plan):
        super().__init__()
        self.encoder, self.tuned, self.plan = encoder.requires_grad_(tuned), tuned, plan
        sides = _sides(encoder, size)
        last_of_stride = {stride: number for number, stride in enumerate(encoder.strides)}
        self.taken = [number for stride, number in sorted(last_of_stride.items()) if stride >= FIRST_STRIDE]
        self.taken = self.taken or [len(sides) - 1]
        self.out_channels = [encoder.dims[number] for number in self.taken]
        self.extra = nn.ModuleList()
        side = sides[self.taken[-1]]
        while side > 1 and len(self.out_channels) < MOST_MAPS:
            self.extra.append(_halving(self.out_channels[-1], EXTRA))
            self.out_channels.append(EXTRA)
            side = -(-side // 2)

    def train(self, mode: bool = True) -> "Pyramid":
        super().train(mode)
        if not self.tuned:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()), self.plan.autocast():
            stages = self.encoder.stages(images)
        maps = [stages[number].float() for number in self.taken]
        for halve in self.extra:
            maps.append(halve(maps[-1]))
        return OrderedDict((str(number), level) for number, level in enumerate(maps))


def detector(encoder: Any, classes: int, size: int, *, tuned: bool, plan: Plan) -> SSD:
    """For images of `size` pixels a side; the layers above the encoder are drawn from torch's global generator.

    BadSetting if the encoder cannot take images of that size.
    """
    pyramid = Pyramid(encoder, size, tuned=tuned, plan=plan)
    anchors = DefaultBoxGenerator([list(RATIOS) for _ in pyramid.out_channels], min_ratio=0.2, max_ratio=0.95)
    head = SSDLiteHead(pyramid.out_channels, anchors.num_anchors_per_location(), classes + 1, NORM)
    # the encoder knows its own mean and deviation; SSDLite's thresholds as in torchvision
    return SSD(
        pyramid,
        anchors,
        (size, size),
        classes + 1,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        head=head,
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
    )


def _sides(encoder: Any, size: int) -> list[int]:
    """Places along a side of every stage's maps."""
    images = torch.zeros(1, 3, size, size, device=next(encoder.parameters()).device)
    try:
        with evaluating(encoder), torch.no_grad():
            return [maps.shape[-1] for maps in encoder.stages(images)]
    except Exception:  # whatever a library's layer raises means the same: no
        raise BadSetting(f"the encoder cannot take images of {size} pixels; give a larger --image-size") from None


def _halving(channels: int, out: int) -> nn.Sequential:
    """1x1 to half as many channels as come out, depthwise 3x3 at every second place, 1x1."""
    inner = out // 2
    sizes, groups = [channels, inner, inner, out], (1, inner, 1)
    layers = zip(pairwise(sizes), (1, 3, 1), (1, 2, 1), groups, strict=True)
    parts = [
        Conv2dNormActivation(i, o, kernel, stride, groups=g, norm_layer=NORM, activation_layer=nn.ReLU6)
        for (i, o), kernel, stride, g in layers
    ]
    for layer in (layer for part in parts for layer in part if isinstance(layer, nn.Conv2d)):
        nn.init.normal_(layer.weight, std=0.03)  # as torchvision's SSDLite begins
    return nn.Sequential(*parts)
