"""RepVGG-A0: 1280 features; branches side by side that may be folded into one 3 x 3 afterwards.

Ding, Zhang, Ma, Han, Ding, Sun, CVPR 2021, https://arxiv.org/abs/2101.03697; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def repvgg_a0(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/repvgg_a0", channels=channels, width=width, stem=stem)
