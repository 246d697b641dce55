"""Any classification network of timm or torchvision as a Backbone."""

from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

import timm
import torchvision
from torch import nn

from lilliput.backbones._backbone import Backbone
from lilliput.backbones._stages import find_split, redrawn, remove_layers, unused_layers, what_is_pooled
from lilliput.backbones._surgery import silence_dropout
from lilliput.backbones._trial import Split
from lilliput.errors import BadSetting, LilliputError, UnknownName
from lilliput.system.progress import say


def library_backbone(name: str, *, channels: int = 3, width: float = 1.0, stem: str = "stock") -> Backbone:
    """Any classification network of timm or torchvision: "timm/resnet10t", "torchvision/resnet34".

    Raises UnknownName where the libraries have no such network, BadSetting where its maps are out of reach. A tag of
    trained weights is told to be of no effect.
    """
    name = _plain_name(name)
    try:
        return _found(name, channels=channels, width=width, stem=stem)
    except (LilliputError, MemoryError):
        raise
    except Exception as error:  # whatever a library's network raises means the same: not this one
        reason = str(error).partition("\n")[0]
        raise BadSetting(f"{name} cannot be taken as a backbone ({type(error).__name__}: {reason})") from None


def _found(name: str, *, channels: int, width: float, stem: str) -> Backbone:
    net = _library_network(name)
    silence_dropout(net)
    if name not in _PARTS:
        _PARTS[name] = _parts_of(net, name)
    remove_layers(net, _PARTS[name].unused)
    return Backbone(net, _PARTS[name].split, channels=channels, width=width, stem=stem, name=name)


class _Parts(NamedTuple):
    """Of a library's network: its stages, and the layers that they do without."""

    split: Split
    unused: list[str]


_PARTS: dict[str, _Parts] = {}  # of the networks that were looked through, which takes longer than building one


def _parts_of(net: nn.Module, name: str) -> _Parts:
    like = redrawn(net)
    images, pooled = what_is_pooled(like, name)
    split = find_split(like, name, images, pooled)
    return _Parts(split, unused_layers(like, split, images))


def _plain_name(name: str) -> str:
    """ "timm/resnet18.a1_in1k" -> "timm/resnet18"; a tag that timm does not know stays, to be refused."""
    library, _, network = name.partition("/")
    plain, _, tag = network.partition(".")
    if library != "timm" or not tag or not timm.is_model(plain) or network not in timm.list_pretrained(f"{plain}.*"):
        return name
    _say_random(name, f"timm/{plain}")
    return f"timm/{plain}"


@cache
def _say_random(name: str, plain: str) -> None:
    """Once for all the networks of that name."""
    say(f"{name} names trained weights, and networks start from random ones here: {plain} is what is built")


def _library_network(name: str) -> nn.Module:
    library, _, network = name.partition("/")
    if (
        library == "timm" and "." not in network and timm.is_model(network)
    ):  # refuses hub addresses, which would open a connection
        return _timm_network(network)
    if library == "torchvision" and network in _torchvision_names():
        own = {"aux_logits": False, "init_weights": True} if network in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(network, weights=None, **own)
    raise UnknownName(f"no network {name!r}; {_hint(name)}")


def _hint(name: str) -> str:
    known = [f"timm/{network}" for network in timm.list_models()]
    known += [f"torchvision/{network}" for network in _torchvision_names()]
    near = [full for full in known if full in (name.partition(".")[0], f"timm/{name}", f"torchvision/{name}")]
    near = near or get_close_matches(name, known)
    return f"did you mean {' or '.join(near)}?" if near else "write timm/NAME or torchvision/NAME"


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)  # its classification networks


def _timm_network(name: str) -> nn.Module:
    try:  # transformers of one fixed size otherwise
        return timm.create_model(name, pretrained=False, dynamic_img_size=True)
    except TypeError:
        return timm.create_model(name, pretrained=False)
