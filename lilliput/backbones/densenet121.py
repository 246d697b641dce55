"""DenseNet-121: 1024 features.

Huang, Liu, van der Maaten, Weinberger, CVPR 2017, https://arxiv.org/abs/1608.06993; torchvision's.
"""

import torch
import torchvision
from torch import nn

from lilliput.backbones import Backbone


def densenet121(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    net = torchvision.models.densenet121(weights=None)
    net.classifier = nn.Identity()
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="densenet121")


def stages(net):
    """A transition ends in the pooling that begins the next stage."""
    parts = net.features
    one, two, three = (list(parts.get_submodule(f"transition{number}")) for number in (1, 2, 3))
    return [
        [parts.conv0, parts.norm0, parts.relu0],
        [parts.pool0, parts.denseblock1, *one[:-1]],
        [one[-1], parts.denseblock2, *two[:-1]],
        [two[-1], parts.denseblock3, *three[:-1]],
        [three[-1], parts.denseblock4, parts.norm5, torch.relu],
    ]
