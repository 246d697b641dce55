"""Backbone: a classification network without its classifier; images in, maps of every stage and pooled features out.

The networks are torchvision's and timm's own, initialised as they initialise them, with no weights fetched.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lilliput.backbones._depthwise import quicken_depthwise
from lilliput.backbones._one_place import quicken_one_place
from lilliput.backbones._parted import in_parts
from lilliput.backbones._surgery import entrances, narrow, replace_input, set_stem, silence_dropout
from lilliput.backbones._trial import Geometry, Split, TrialFailed, measure, run_stages
from lilliput.errors import BadSetting
from lilliput.system.modes import evaluating

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OTHER_MEAN, OTHER_STD = 0.5, 0.25  # of channels that are not red, green and blue
LARGEST_PIXELS = 512


class Backbone(nn.Module):
    """Images [B, channels, H, W] in 0..1 -> features [B, dim].

    `split` cuts the network into stages and is called at every forward, so it sees layers that were replaced or copied.
    `stem`: "half" and "quarter" divide the strides by 2 and 4, for small images; the weights stay those of the library.
    `dims` and `strides` tell the channels of every stage's maps and their pixels of the input per place; `dim` and
    `stride` are the last stage's. Raises BadSetting where the network cannot be built so.
    """

    mean: Tensor
    std: Tensor
    parts: int = 1  # in which a training batch is taken

    def __init__(
        self,
        net: nn.Module,
        split: Split,
        *,
        channels: int = 3,
        width: float = 1.0,
        stem: str = "stock",
        name: str | None = None,
    ):
        super().__init__()
        self.net = net
        self.split = split
        self.channels = channels
        self.name = name or type(net).__name__.lower()
        silence_dropout(net)
        set_stem(net, split, stem, name=self.name)
        fed = entrances(net, split) if width != 1 or channels != 3 else []
        if width != 1:
            narrow(net, width, fed)
        if channels != 3:
            replace_input(fed, channels)
        quicken_depthwise(net)
        quicken_one_place(net)
        rgb = channels == 3
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if rgb else ((OTHER_MEAN,) * channels, (OTHER_STD,) * channels)
        # not persistent: the state dict holds nothing but the library's weights
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.dims, self.strides = _geometry(self, width)
        self.dim, self.stride = self.dims[-1], self.strides[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps at the end of every stage, [B, D_i, h_i, w_i]; the last are `maps`."""
        return self._parted(self._stages, images)

    def maps(self, images: Tensor) -> Tensor:
        """[B, dim, h, w]"""
        return self._parted(lambda part: self._stages(part)[-1:], images)[0]

    def forward(self, images: Tensor) -> Tensor:
        """[B, dim]: the average of the maps over their places."""
        return self.maps(images).mean((2, 3))

    def compile(self, *arguments, **named) -> None:
        """As torch's, of `stages` and `maps` too: a technique may call them and never the module itself."""
        self.__dict__["_stages"] = torch.compile(self._stages, *arguments, **named)

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_stages"}

    def _stages(self, images: Tensor) -> list[Tensor]:
        return run_stages(self.split(self.net), (images - self.mean) / self.std)

    def _parted(self, maps: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
        return in_parts(maps, images, self.parts, self.net) if self.training and self.parts > 1 else maps(images)


def check_image_size(backbone: Backbone, image_size: int) -> None:
    """Raise BadSetting if the backbone cannot take square images of so many pixels."""
    if _takes(backbone, image_size):
        return
    larger = next((size for size in range(image_size + 1, LARGEST_PIXELS + 1) if _takes(backbone, size)), None)
    remedy = f"the next size that it takes is {larger}" if larger else f"nor any larger ones up to {LARGEST_PIXELS}"
    raise BadSetting(f"{backbone.name} cannot take images of {image_size} pixels; {remedy}")


class TooSmall(BadSetting):
    """Images that `backbone` cannot take; with the next size that it takes."""

    def __init__(self, backbone: Backbone, reason: str):
        super().__init__(reason)
        self.backbone = backbone


def refuse_small_parts(module: nn.Module) -> None:
    """From now on the module's backbones raise TooSmall for images that they cannot take, such as tiles."""
    for backbone in (part for part in module.modules() if isinstance(part, Backbone)):
        backbone.__dict__["_stages"] = partial(_checked_stages, backbone)


def _checked_stages(backbone: Backbone, images: Tensor) -> list[Tensor]:
    try:
        return Backbone._stages(backbone, images)
    except Exception as error:  # whatever a library's layer raises
        del backbone.__dict__["_stages"]  # which would ask again at every size that is tried
        try:
            check_image_size(backbone, min(images.shape[-2:]))
        except BadSetting as reason:
            raise TooSmall(backbone, str(reason)) from error
        raise


def _takes(backbone: Backbone, size: int) -> bool:
    images = backbone.mean.new_zeros(2, backbone.channels, size, size)
    try:
        with evaluating(backbone), torch.no_grad():
            return backbone.maps(images).numel() > 0
    except Exception:  # whatever a library's layer raises means the same: no
        return False


def _geometry(backbone: Backbone, width: float) -> Geometry:
    try:
        return measure(backbone.net, backbone.stages, backbone.channels)
    except TrialFailed as reason:
        if width == 1:
            raise BadSetting(
                f"{backbone.name} gives no maps of {backbone.channels}-channel images ({reason})"
            ) from None
        raise BadSetting(
            f"{backbone.name} cannot be built at width {width} ({reason}); 1 fits, and 0.5 more often than others"
        ) from None
