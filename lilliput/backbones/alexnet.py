"""AlexNet: 256 features, no skips and no normalisation anywhere.

Krizhevsky, Sutskever, Hinton, NeurIPS 2012, in the form of Krizhevsky 2014, https://arxiv.org/abs/1404.5997;
torchvision's features, up to the third pooling. Images from 63 px on; with `stem` "half" from 35, "quarter" from 21.
"""

import torch
import torchvision
from torch import nn

from lilliput.backbones import Backbone


def alexnet(*, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    with torch.device("meta"):  # where the 55 million weights of the classifier, which goes, cost nothing
        net = torchvision.models.alexnet(weights=None)
    net.classifier = nn.Identity()
    net.to_empty(device=torch.get_default_device())
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name="alexnet")


def stages(net):
    layers = list(net.features)
    return [layers[:2], layers[2:5], layers[5:12], layers[12:]]
