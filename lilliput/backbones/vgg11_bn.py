"""VGG-11 with batch norm: 512 features, no skips.

Simonyan, Zisserman, ICLR 2015, https://arxiv.org/abs/1409.1556, configuration A; torchvision's.
"""

import torch
from torch import nn
from torchvision.models import vgg

from lilliput.backbones import Backbone


def vgg11_bn(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
    with torch.device("meta"):  # where the 124 million weights of the classifier, which goes, cost nothing
        net = vgg.VGG(features)
    net.classifier = nn.Identity()
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="vgg11_bn")


def stages(net):
    layers = list(net.features)
    return [layers[:3], layers[3:7], layers[7:14], layers[14:21], layers[21:28], layers[28:]]
