"""EfficientNet-Lite0: 1280 features, no squeeze-and-excitation, ReLU6.

Tan, Le, ICML 2019, https://arxiv.org/abs/1905.11946, and the TensorFlow authors' Lite models; timm's, whose plain one
pads as PyTorch does where `tf_efficientnet_lite0` pads as TensorFlow does.
"""

import timm
from torch import nn

from lilliput.backbones import Backbone


def efficientnet_lite0(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    net = timm.create_model("efficientnet_lite0", pretrained=False)
    net.classifier = nn.Identity()
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="efficientnet_lite0")


def stages(net):
    blocks = list(net.blocks)
    return [
        [net.conv_stem, net.bn1, blocks[0]],
        blocks[1:2],
        blocks[2:3],
        blocks[3:5],
        [*blocks[5:], net.conv_head, net.bn2],
    ]
