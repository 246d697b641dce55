"""MobileNetV2: 1280 features.

Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, https://arxiv.org/abs/1801.04381; torchvision's.
"""

import torchvision
from torch import nn

from lilliput.backbones import Backbone


def mobilenet_v2(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    net = torchvision.models.mobilenet_v2(weights=None)
    net.classifier = nn.Identity()  # the whole: its dropout would stay alive
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="mobilenet_v2")


def stages(net):
    layers = list(net.features)
    return [layers[:2], layers[2:4], layers[4:7], layers[7:14], layers[14:]]
