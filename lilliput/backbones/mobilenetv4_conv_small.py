"""MobileNetV4, the small one of convolutions alone: 960 features.

Qin et al., ECCV 2024, https://arxiv.org/abs/2404.10518; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def mobilenetv4_conv_small(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/mobilenetv4_conv_small", channels=channels, width=width, stem=stem)
