"""CondenseNet: 400 features; learned group convolutions, which lose three quarters of their inputs while they train.

Huang, Liu, van der Maaten, Weinberger, CVPR 2018, https://arxiv.org/abs/1711.09224, sections 3 and 4; a small one, of
the first three of its five stages for ImageNet.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.backbones import Backbone

LAYERS, GROWTH = (4, 6, 8), (8, 16, 32)
BOTTLENECK = 4  # times the growth: the channels between both convolutions of a layer
GROUPS = 4


def condensenet(
    *, channels: int = 3, width: float = 1.0, stem: str = "stock", condensation: Annotated[int, ">= 1"] = 4
) -> Backbone:
    """Maps of stride 8, [B, 400 width, H / 8, W / 8]. Growths are multiples of both `condensation` and the groups, so
    that narrow networks are not quite as narrow as they are told to be."""
    unit = math.lcm(GROUPS, condensation)
    growth = [unit * max(1, round(rate * width / unit)) for rate in GROWTH]
    net = CondenseNet(growth, condensation)
    return Backbone(net, stages, channels=channels, stem=stem, name="condensenet")


def stages(net):
    return [[net.conv], [net.block1], [net.pool1, net.block2], [net.pool2, net.block3, net.norm, net.relu]]


class CondenseNet(nn.Module):
    """Every layer reads all maps before it, those of earlier stages too; growth doubles from stage to stage."""

    def __init__(self, growth: list[int], condensation: int):
        super().__init__()
        dim = 2 * growth[0]
        self.conv = nn.Conv2d(3, dim, 3, stride=2, padding=1, bias=False)
        for number, (layers, rate) in enumerate(zip(LAYERS, growth, strict=True), 1):
            block = [DenseLayer(dim + index * rate, rate, condensation) for index in range(layers)]
            self.add_module(f"block{number}", nn.Sequential(*block))
            self.add_module(f"pool{number}", nn.AvgPool2d(2) if number < len(LAYERS) else nn.Identity())
            dim += layers * rate
        self.norm, self.relu = nn.BatchNorm2d(dim), nn.ReLU(inplace=True)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")


class DenseLayer(nn.Module):
    """[B, inputs, H, W] -> [B, inputs + growth, H, W]: figure 4 of the paper, its input handed on beside its output."""

    def __init__(self, inputs: int, growth: int, condensation: int):
        super().__init__()
        between = BOTTLENECK * growth
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(between)
        self.conv1: nn.Module = LearnedGroupConv(inputs, between, condensation)
        self.conv2 = nn.Conv2d(between, growth, 3, padding=1, groups=GROUPS, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        between = self.conv1(F.relu(self.norm1(maps)))
        mixed = between.unflatten(1, (GROUPS, -1)).transpose(1, 2).flatten(1, 2)  # of every group some for each group
        return torch.cat([maps, self.conv2(F.relu(self.norm2(mixed)))], 1)


class LearnedGroupConv(nn.Conv2d):
    """A 1 x 1 convolution whose groups of filters choose their inputs: `mask` [groups, inputs] says which are left."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, condensation: int):
        super().__init__(inputs, outputs, 1, bias=False)
        self.condensation = condensation
        self.stages_done = 0  # what the mask says too, but asking it would wait for the device at every step
        self.register_buffer("mask", torch.ones(GROUPS, inputs, dtype=torch.bool))

    def forward(self, maps: Tensor) -> Tensor:
        return F.conv2d(maps, (self._grouped() * self.mask[:, None, :, None, None]).flatten(0, 1))

    def after_step(self, progress: float) -> None:
        """Each condensing stage takes from every group the R / C inputs that weigh least: section 3.2."""
        due = stages_due(progress, self.condensation)
        if due > self.stages_done:
            self.stages_done = due
            self._keep(self.in_channels - due * (self.in_channels // self.condensation))

    def condensed(self) -> nn.Module:
        """An index layer and a plain group convolution that give the same: section 3.3."""
        inputs = [chosen.nonzero().flatten() for chosen in self.mask]
        weight = torch.cat([own[:, index] for own, index in zip(self._grouped(), inputs, strict=True)])
        return IndexedGroupConv(torch.cat(inputs), weight.detach())

    @torch.no_grad()
    def _keep(self, count: int) -> None:
        """Of each group the `count` inputs of the largest sum of absolute weights; what is gone stays gone."""
        count = min(count, int(self.mask.sum(1).min()))  # weights that training begins with may be condensed already
        weighs = self._grouped().abs().sum((1, 3, 4)).masked_fill(~self.mask, -1.0)
        self.mask.zero_().scatter_(1, weighs.topk(count).indices, True)

    def _grouped(self) -> Tensor:
        """[groups, outputs / groups, inputs, 1, 1]"""
        return self.weight.unflatten(0, (GROUPS, -1))


class IndexedGroupConv(nn.Module):
    """What a learned group convolution is once it has learned its groups: inputs in their groups' order."""

    index: Tensor

    def __init__(self, index: Tensor, weight: Tensor):
        """index [groups * k], weight [outputs, k, 1, 1]"""
        super().__init__()
        self.register_buffer("index", index)
        self.conv = nn.Conv2d(len(index), len(weight), 1, groups=GROUPS, bias=False)
        self.conv.weight = nn.Parameter(weight.clone())

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(maps.index_select(1, self.index))


def stages_due(progress: float, condensation: int) -> int:
    """How many of the C - 1 condensing stages are over: they share the first half of training, 0 <= progress <= 1."""
    return min(condensation - 1, int(2 * progress * (condensation - 1)))
