"""ShuffleNetV2 x0.5: 1024 features.

Ma, Zhang, Zheng, Sun, ECCV 2018, https://arxiv.org/abs/1807.11164; torchvision's.
"""

import torchvision
from torch import nn

from lilliput.backbones import Backbone


def shufflenet_v2(*, channels=3, width=1.0) -> Backbone:
    net = torchvision.models.shufflenet_v2_x0_5(weights=None)
    net.fc = nn.Identity()
    return Backbone(net, stages, channels=channels, width=width, name="shufflenet_v2")


def stages(net):
    return [[net.conv1, net.maxpool], [net.stage2], [net.stage3], [net.stage4, net.conv5]]
