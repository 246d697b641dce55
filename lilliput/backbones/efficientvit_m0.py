"""EfficientViT-M0: 192 features of stride 64, attention in groups; it has no narrower form.

Liu, Peng, Zheng, Yang, Hu, Yuan, CVPR 2023, https://arxiv.org/abs/2305.07027; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def efficientvit_m0(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/efficientvit_m0", channels=channels, width=width, stem=stem)
