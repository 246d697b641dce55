"""MobileNetV2: 1280 features.

Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, https://arxiv.org/abs/1801.04381; torchvision's. Its skips have no
layers of their own, so the plain twin has all the weights.
"""

import torchvision
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual

from lilliput.backbones import Backbone


def mobilenet_v2(*, channels: int = 3, width: float = 1.0, stem: str = "stock", skips: bool = True) -> Backbone:
    net = torchvision.models.mobilenet_v2(weights=None)
    net.classifier = nn.Identity()  # the whole: its dropout would stay alive
    if not skips:
        for block in net.features:
            if isinstance(block, InvertedResidual):
                block.use_res_connect = False
    name = "mobilenet_v2" if skips else "mobilenet_v2 without skips"
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name=name)


def stages(net):
    layers = list(net.features)
    return [layers[:2], layers[2:4], layers[4:7], layers[7:14], layers[14:]]
