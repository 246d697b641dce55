"""ResNet-50: 2048 features.

He, Zhang, Ren, Sun, CVPR 2016, https://arxiv.org/abs/1512.03385; torchvision's, which strides in a block's 3 x 3.
"""

from lilliput.backbones import Backbone
from lilliput.backbones._resnet import resnet


def resnet50(*, channels: int = 3, width: float = 1.0, stem: str = "stock", skips: bool = True) -> Backbone:
    return resnet("resnet50", channels=channels, width=width, stem=stem, skips=skips)
