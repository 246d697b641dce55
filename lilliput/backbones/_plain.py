"""Networks of torch's own layers alone, as other programs want them."""

import copy
from typing import TypeVar

from timm.utils import reparameterize_model
from torch import nn

from lilliput.backbones._condense import condensed
from lilliput.backbones._depthwise import DepthwiseConv2d
from lilliput.backbones._one_place import OnePlaceConv2d

M = TypeVar("M", bound=nn.Module)


def plain(network: M) -> M:
    """A copy that gives the same features in eval mode, to be exported: its quick convolutions are nn.Conv2d again,
    layers that condense are what they have condensed to, and branches that may be one layer (RepVGG's) are one."""
    copied: M = reparameterize_model(condensed(copy.deepcopy(network).eval()), inplace=True)  # type: ignore[assignment]
    for layer in copied.modules():
        if isinstance(layer, DepthwiseConv2d | OnePlaceConv2d):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
    return copied.requires_grad_(False).eval()
