"""GhostNet: 960 features, half of each layer's maps drawn cheaply from the other half.

Han, Wang, Tian, Guo, Xu, Xu, CVPR 2020, https://arxiv.org/abs/1911.11907; timm's.
"""

from lilliput.backbones import Backbone, library_backbone


def ghostnet_100(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    return library_backbone("timm/ghostnet_100", channels=channels, width=width, stem=stem)
