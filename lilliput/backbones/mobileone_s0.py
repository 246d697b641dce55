"""MobileOne-S0: 1024 features; depthwise branches side by side that may be folded into one afterwards.

Vasu, Gabriel, Zhu, Tuzel, Ranjan, CVPR 2023, https://arxiv.org/abs/2206.04040; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def mobileone_s0(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/mobileone_s0", channels=channels, width=width, stem=stem)
