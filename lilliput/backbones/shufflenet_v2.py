"""ShuffleNetV2 x0.5: 1024 features.

Ma, Zhang, Zheng, Sun, ECCV 2018, https://arxiv.org/abs/1807.11164; torchvision's.
"""

import torchvision
from torch import nn

from lilliput.backbones import Backbone


def shufflenet_v2(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    net = torchvision.models.shufflenet_v2_x0_5(weights=None)
    net.fc = nn.Identity()
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="shufflenet_v2")


def stages(net):
    return [[net.conv1, net.maxpool], [net.stage2], [net.stage3], [net.stage4, net.conv5]]
