"""Backbone: a classification network without its classifier; images in, maps of every stage and pooled features out.

The networks are torchvision's and timm's own, initialised as they initialise them, with no weights fetched.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.backbones._depthwise import quicken_depthwise
from lilliput.backbones._surgery import narrow, replace_input, silence_dropout
from lilliput.errors import BadSetting

Layer = Callable[[Tensor], Tensor]
Split = Callable[[Any], Sequence[Sequence[Layer]]]  # network -> the layers of every stage, in order

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRIAL_PIXELS = 64  # enough for five halvings; a network of fixed size is tried at its own
LARGEST_PIXELS = 512


class Backbone(nn.Module):
    """Images [B, channels, H, W] in 0..1 -> features [B, dim].

    `split` cuts the network into stages and is called at every forward, so it sees layers that were replaced or copied.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, split: Split, *, channels: int = 3, width: float = 1.0, name: str | None = None):
        super().__init__()
        self.net = net
        self.split = split
        self.channels = channels
        self.name = name or type(net).__name__.lower()
        silence_dropout(net)
        if width != 1:
            narrow(net, width)
        if channels != 3:
            replace_input(net, channels)
        quicken_depthwise(net)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
        # not persistent: the state dict holds nothing but the library's weights
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.dim = _width_of_maps(self, width)

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps at the end of every stage, [B, D_i, h_i, w_i]; the last are `maps`."""
        return run_stages(self.split(self.net), (images - self.mean) / self.std)

    def maps(self, images: Tensor) -> Tensor:
        """[B, dim, h, w]"""
        return self.stages(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """[B, dim]: the average of the maps over their places."""
        return self.maps(images).mean((2, 3))


def check_image_size(backbone: Backbone, image_size: int) -> None:
    """Raise BadSetting if the backbone cannot take square images of so many pixels."""
    if _takes(backbone, image_size):
        return
    larger = next((size for size in range(image_size + 1, LARGEST_PIXELS + 1) if _takes(backbone, size)), None)
    remedy = f"the next size that it takes is {larger}" if larger else f"nor any larger ones up to {LARGEST_PIXELS}"
    raise BadSetting(f"{backbone.name} cannot take images of {image_size} pixels; {remedy}")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients, then as it was: a trial must not move the statistics of batch norm."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in training.items():
            part.training = mode


def run_stages(stages: Sequence[Sequence[Layer]], x: Tensor) -> list[Tensor]:
    ends = []
    for layers in stages:
        for layer in layers:
            x = layer(x)
        ends.append(x)
    return ends


# Trials: what a backbone takes and gives


def _trial(backbone: Backbone, size: int) -> Tensor:
    images = torch.zeros(2, backbone.channels, size, size, device=backbone.mean.device, dtype=backbone.mean.dtype)
    with evaluating(backbone):
        return backbone.maps(images)  # [2, dim, h, w]


def _takes(backbone: Backbone, size: int) -> bool:
    try:
        return _trial(backbone, size).numel() > 0
    except Exception:  # whatever a library's layer raises means the same: no
        return False


def _width_of_maps(backbone: Backbone, width: float) -> int:
    for size in trial_sizes(backbone.net):
        try:
            return _trial(backbone, size).shape[1]
        except Exception as error:  # as above
            reason = first_line(error)
    if width != 1:
        raise BadSetting(
            f"{backbone.name} cannot be built at width {width} ({reason}); 1 fits, and 0.5 more often than others"
        )
    raise BadSetting(f"{backbone.name} gives no maps of {backbone.channels}-channel images ({reason})")


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def trial_sizes(net: nn.Module) -> list[int]:
    own = getattr(net, "pretrained_cfg", None) or {}
    return [TRIAL_PIXELS, own.get("input_size", (3, 224, 224))[-1]]
