"""Any classification network of timm or torchvision as a Backbone, its stages found by a walk through its layers."""

import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

from lilliput.backbones._backbone import Backbone, Layer, Split, evaluating, first_line, run_stages, trial_sizes
from lilliput.backbones._surgery import silence_dropout
from lilliput.errors import BadSetting, UnknownName


def library_backbone(name: str, *, channels: int = 3, width: float = 1.0) -> Backbone:
    """Any classification network of timm or torchvision: "timm/resnet10t", "torchvision/resnet34"."""
    net = _library_network(name)
    silence_dropout(net)
    images, pooled = _what_is_pooled(net, name)
    split = _find_split(net, name, images, pooled)
    _remove_unused(net, split, images)
    return Backbone(net, split, channels=channels, width=width, name=name)


# Networks by name


def _library_network(name: str) -> nn.Module:
    library, _, network = name.partition("/")
    if library == "timm" and timm.is_model(network):  # refuses hub addresses, which would open a connection
        return _timm_network(network)
    if library == "torchvision" and network in _torchvision_names():
        own = {"aux_logits": False, "init_weights": True} if network in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(network, weights=None, **own)
    known = [f"timm/{known}" for known in timm.list_models()] + [
        f"torchvision/{known}" for known in _torchvision_names()
    ]
    near = [full for full in known if full.endswith(f"/{name}")] or get_close_matches(name, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "write timm/NAME or torchvision/NAME"
    raise UnknownName(f"no network {name!r}; {hint}")


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)  # its classification networks


def _timm_network(name: str) -> nn.Module:
    try:  # transformers of one fixed size otherwise
        return timm.create_model(name, pretrained=False, dynamic_img_size=True)
    except TypeError:
        return timm.create_model(name, pretrained=False)


# Stages of a network that we know only by name


class _Step(NamedTuple):
    layer: str
    maps: Tensor
    version: int  # counts the changes in place, so that a later layer's are noticed


def _find_split(net: nn.Module, name: str, images: Tensor, pooled: Tensor) -> Split:
    """A stage per halving where the layers run one after another as registered; else the whole as one stage."""
    with evaluating(net):
        walk = _walk(net, images, pooled)
    if walk and all(_is_square(step.maps) for step in walk):
        stages = _cut(net, walk, images.shape[-1])
        if all(stage[-1].maps._version == stage[-1].version for stage in stages):
            return partial(_named_layers, names=[[step.layer for step in stage] for stage in stages])
    if hasattr(net, "forward_features"):
        return _whole
    if walk and _is_square(walk[-1].maps):
        return partial(_named_layers, names=[[step.layer for step in walk]])
    raise BadSetting(f"the maps of {name} are out of reach; look for the same network under timm/")


def _named_layers(net: nn.Module, names: Sequence[Sequence[str]]) -> list[list[Layer]]:
    return [[net.get_submodule(name) for name in stage] for stage in names]


def _whole(net: Any) -> list[list[Layer]]:
    return [[net.forward_features, partial(_as_maps, prefix=getattr(net, "num_prefix_tokens", 0))]]


def _as_maps(features: Tensor, prefix: int) -> Tensor:
    """Tokens [B, prefix + h*w, D] or maps with the channels last [B, h, w, D] -> [B, D, h, w], of square images."""
    if features.ndim == 3:
        features = features[:, prefix:]
        side = math.isqrt(features.shape[1])
        return features.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return features if _is_square(features) else features.permute(0, 3, 1, 2)


def _is_square(maps: Tensor) -> bool:
    return maps.ndim == 4 and maps.shape[2] == maps.shape[3]


def _what_is_pooled(net: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Images, and what the network's own forward makes of them just before, or just after, its pooling."""
    for size in trial_sizes(net):
        images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        try:
            with evaluating(net):
                return images, getattr(net, "forward_features", partial(_head_input, net))(images)
        except Exception as error:  # as in `_takes`
            reason = first_line(error)
    raise BadSetting(f"{name} gives no maps ({reason})")


def _head_input(net: nn.Module, images: Tensor) -> Tensor:
    head = (nn.AdaptiveAvgPool2d, nn.Dropout, nn.Flatten, nn.Linear)
    seen: list[Tensor] = []
    layers = [net.get_submodule(name) for name in _layer_names(net)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
        for layer in layers
        if isinstance(layer, head)
    ]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0]


def _walk(net: nn.Module, images: Tensor, pooled: Tensor) -> list[_Step] | None:
    """The layers in order, up to the one that gives what is pooled; None if none does."""
    x, walk = images, []
    for name in _layer_names(net):
        try:
            x = net.get_submodule(name)(x)
        except Exception:  # not a chain, or past its end
            return None
        if not isinstance(x, Tensor):
            return None
        walk.append(_Step(name, x, x._version))
        if _same(x, pooled) or (x.ndim == 4 and _same(x.mean((2, 3)), pooled)):
            return walk
    return None


def _layer_names(net: nn.Module, prefix: str = "") -> Iterator[str]:
    for name, child in net.named_children():
        if type(child).forward is nn.Sequential.forward:
            yield from _layer_names(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def _same(one: Tensor, other: Tensor) -> bool:
    # relative to the largest value: without normalisation random weights may give tiny ones
    return one.shape == other.shape and bool((one - other).abs().max() < 1e-4 * other.abs().max())


def _cut(net: nn.Module, walk: list[_Step], size: int) -> list[list[_Step]]:
    """Stages by halvings of the resolution; one without weights, a pooling alone, ends the stage before it."""
    stages: list[list[_Step]] = []
    for _, group in groupby(walk, key=lambda step: round(math.log2(size / step.maps.shape[-1]))):
        steps = list(group)
        if stages and not any(list(net.get_submodule(step.layer).parameters()) for step in steps):
            stages[-1] += steps
        else:
            stages.append(steps)
    return stages


def _remove_unused(net: nn.Module, split: Split, images: Tensor) -> None:
    """What no gradient of the maps reaches is the classifier and what belongs to it."""
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    with evaluating(net), torch.enable_grad():
        maps = run_stages(split(net), images)[-1]
        gradients = torch.autograd.grad(maps.sum(), weights, allow_unused=True)
    unused = {weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is None}
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if unused.issuperset(weights := list(child.parameters())) and weights:
                setattr(parent, name, nn.Identity())
