"""MobileNetV2 without its skips, for a study that holds both: 1280 features.

Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, https://arxiv.org/abs/1801.04381; made of torchvision's.
"""

from lilliput.backbones import Backbone
from lilliput.backbones.mobilenet_v2 import mobilenet_v2


def mobilenet_v2_plain(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return mobilenet_v2(channels=channels, width=width, stem=stem, skips=False)
