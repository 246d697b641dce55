"""ResNet-18 without its skips, for a study that holds both: 512 features.

He, Zhang, Ren, Sun, CVPR 2016, https://arxiv.org/abs/1512.03385, section 4.1; made of torchvision's.
"""

from lilliput.backbones import Backbone
from lilliput.backbones.resnet18 import resnet18


def resnet18_plain(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return resnet18(channels=channels, width=width, stem=stem, skips=False)
