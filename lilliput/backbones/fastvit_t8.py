"""FastViT-T8: 768 features, mixing by convolutions that may be folded into one afterwards.

Vasu, Gabriel, Zhu, Tuzel, Ranjan, ICCV 2023, https://arxiv.org/abs/2303.14189; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def fastvit_t8(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/fastvit_t8", channels=channels, width=width, stem=stem)
