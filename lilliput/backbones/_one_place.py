"""Convolutions over maps of a single place, where all but the kernel's middle meets nothing but padding.

They are a product with that middle: oneDNN takes two to three times as long for it on a CPU, and for all of a kernel
up to ten times.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def quicken_one_place(net: nn.Module) -> None:
    """Change the class of every dense convolution of an odd kernel in `net`, in place; names and weights stay."""
    for layer in net.modules():
        if type(layer) is nn.Conv2d and layer.groups == 1 and _keeps_one_place(layer):
            layer.__class__ = OnePlaceConv2d


def _keeps_one_place(conv: nn.Conv2d) -> bool:
    middle = tuple(length // 2 for length in conv.kernel_size)
    odd = all(length % 2 for length in conv.kernel_size)
    return odd and conv.padding == middle and conv.dilation == (1, 1) and conv.padding_mode == "zeros"


class OnePlaceConv2d(nn.Conv2d):
    """nn.Conv2d, as a product where the maps are [B, C, 1, 1] on a CPU."""

    def forward(self, maps: Tensor) -> Tensor:
        # a traced network is to be of torch's own layers alone, whatever the size of the maps that it is traced with
        if maps.shape[2:] != (1, 1) or maps.device.type != "cpu" or torch.jit.is_tracing():  # type: ignore[no-untyped-call]
            return super().forward(maps)
        height, width = self.kernel_size
        return F.linear(maps.flatten(1), self.weight[:, :, height // 2, width // 2], self.bias)[:, :, None, None]
