"""MobileNetV3 small: 576 features, squeeze-and-excitation, hard swish.

Howard et al., ICCV 2019, https://arxiv.org/abs/1905.02244; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def mobilenetv3_small_100(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/mobilenetv3_small_100", channels=channels, width=width, stem=stem)
