"""Any classification network of timm or torchvision as a Backbone."""

from difflib import get_close_matches

import timm
import torchvision
from torch import nn

from lilliput.backbones._backbone import Backbone
from lilliput.backbones._stages import find_split, redrawn, remove_layers, unused_layers, what_is_pooled
from lilliput.backbones._surgery import silence_dropout
from lilliput.errors import UnknownName


def library_backbone(name: str, *, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    """Any classification network of timm or torchvision: "timm/resnet10t", "torchvision/resnet34".

    Raises UnknownName where the libraries have no such network, BadSetting where its maps are out of reach.
    """
    net = _library_network(name)
    silence_dropout(net)
    like = redrawn(net)
    images, pooled = what_is_pooled(like, name)
    split = find_split(like, name, images, pooled)
    remove_layers(net, unused_layers(like, split, images))
    return Backbone(net, split, channels=channels, width=width, stem=stem, name=name)


def _library_network(name: str) -> nn.Module:
    library, _, network = name.partition("/")
    if library == "timm" and timm.is_model(network):  # refuses hub addresses, which would open a connection
        return _timm_network(network)
    if library == "torchvision" and network in _torchvision_names():
        own = {"aux_logits": False, "init_weights": True} if network in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(network, weights=None, **own)
    raise UnknownName(f"no network {name!r}; {_hint(name)}")


def _hint(name: str) -> str:
    known = [f"timm/{network}" for network in timm.list_models()]
    known += [f"torchvision/{network}" for network in _torchvision_names()]
    near = [full for full in known if full.endswith(f"/{name}")] or get_close_matches(name, known)
    return f"did you mean {' or '.join(near)}?" if near else "write timm/NAME or torchvision/NAME"


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)  # its classification networks


def _timm_network(name: str) -> nn.Module:
    try:  # transformers of one fixed size otherwise
        return timm.create_model(name, pretrained=False, dynamic_img_size=True)
    except TypeError:
        return timm.create_model(name, pretrained=False)
