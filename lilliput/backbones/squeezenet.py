"""SqueezeNet 1.1: 512 features, and no normalisation anywhere.

Iandola et al., 2016, https://arxiv.org/abs/1602.07360; torchvision's.
"""

import torchvision
from torch import nn

from lilliput.backbones import Backbone


def squeezenet(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    net = torchvision.models.squeezenet1_1(weights=None)
    net.classifier = nn.Identity()  # a dropout, a convolution to the classes and a ReLU
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="squeezenet")


def stages(net):
    layers = list(net.features)
    return [layers[:2], layers[2:5], layers[5:8], layers[8:]]
