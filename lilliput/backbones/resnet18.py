"""ResNet-18: 512 features.

He, Zhang, Ren, Sun, CVPR 2016, https://arxiv.org/abs/1512.03385; torchvision's.
"""

import torchvision
from torch import nn

from lilliput.backbones import Backbone


def resnet18(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    net = torchvision.models.resnet18(weights=None)
    net.fc = nn.Identity()
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="resnet18")


def stages(net):
    return [[net.conv1, net.bn1, net.relu], [net.maxpool, net.layer1], [net.layer2], [net.layer3], [net.layer4]]
