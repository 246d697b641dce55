"""The stages of a network known by nothing but its name, found by a walk through its layers."""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lilliput.backbones._batch_norm import BATCH_NORMS
from lilliput.backbones._trial import Layer, Split, TrialFailed, at_fitting_size, run_stages, watching
from lilliput.errors import BadSetting
from lilliput.system.modes import evaluating

HEAD = (nn.AdaptiveAvgPool2d, nn.Dropout, nn.Flatten, nn.Linear)  # layers that come after the maps
CLOSE = 1e-4  # of the largest value: the same maps, but for rounding


class _Step(NamedTuple):
    layer: str
    maps: Tensor
    changes: int  # of the maps in place, so that a later layer's are noticed


@torch.no_grad()
def redrawn(net: nn.Module) -> nn.Module:
    """A copy to try things on whose weights and statistics are drawn anew, so that every layer does something.

    Before training many do not: branches end in zeros, norms are the identity, and a network without its last blocks
    gives the same maps. Neither `net` nor torch's random numbers are touched.
    """
    draw = torch.Generator().manual_seed(0)
    copied = copy.deepcopy(net)
    for values in copied.parameters():
        if values.ndim < 2:
            values.add_(torch.empty_like(values).uniform_(-0.5, 0.5, generator=draw))
        else:  # sums over the inputs keep their size
            noise = torch.empty_like(values).normal_(generator=draw) * math.sqrt(len(values) / values.numel())
            values.copy_((values + noise) / math.sqrt(2))
    for layer in copied.modules():
        if isinstance(layer, BATCH_NORMS) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.add_(torch.empty_like(layer.running_mean).uniform_(-0.5, 0.5, generator=draw))
            layer.running_var.add_(torch.empty_like(layer.running_var).uniform_(-0.5, 0.5, generator=draw))
    return copied


def find_split(net: nn.Module, name: str, images: Tensor, pooled: Tensor) -> Split:
    """A stage per halving where the layers run one after another as registered; else the whole as one stage."""
    with evaluating(net), torch.no_grad():
        walk = _walk(net, images, pooled)
    if walk and all(_is_square(step.maps) for step in walk):
        stages = _cut(net, walk, images.shape[-1])
        if all(_changes(stage[-1].maps) == stage[-1].changes for stage in stages):
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


def what_is_pooled(net: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Images, and what the network's own forward makes of them just before, or just after, its pooling."""

    def trial(size: int) -> tuple[Tensor, Tensor]:
        images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with evaluating(net), torch.no_grad():
            return images, getattr(net, "forward_features", partial(_head_input, net))(images)

    try:
        images, pooled = at_fitting_size(net, trial)
    except TrialFailed as reason:
        raise BadSetting(f"{name} gives no maps ({reason})") from None
    if not isinstance(pooled, Tensor):
        raise BadSetting(f"{name} gives no maps of one kind, but a {type(pooled).__name__} of several")
    return images, pooled


def _head_input(net: nn.Module, images: Tensor) -> Tensor:
    """The first input of a layer of the head."""
    seen: list[Tensor] = []
    layers = {name: net.get_submodule(name) for name in _layer_names(net)}
    head = {name: layer for name, layer in layers.items() if isinstance(layer, HEAD)}
    with watching(head, lambda _, maps: seen.append(maps.clone())):
        net(images)
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
        walk.append(_Step(name, x, _changes(x)))
        if _same(x, pooled) or (x.ndim == 4 and _same(x.mean((2, 3)), pooled)):
            return walk
    return None


def _changes(maps: Tensor) -> int:
    """How often a tensor was changed in place. torch has no public name for it, and its values cannot tell: a ReLU in
    place leaves another ReLU's maps as they are."""
    return maps._version


def _layer_names(net: nn.Module, prefix: str = "") -> Iterator[str]:
    for name, child in net.named_children():
        if type(child).forward is nn.Sequential.forward:
            yield from _layer_names(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def _same(maps: Tensor, reference: Tensor) -> bool:
    if maps.shape != reference.shape:
        return False
    # relative to the largest value: without normalisation random weights may give tiny ones
    return bool((maps - reference).abs().max() < CLOSE * reference.abs().max())


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


def unused_layers(net: nn.Module, split: Split, images: Tensor) -> list[str]:
    """What no gradient of the maps reaches: the classifier and what belongs to it."""
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    with evaluating(net), torch.enable_grad():
        maps = run_stages(split(net), images)[-1]
        gradients = torch.autograd.grad(maps.sum(), weights, allow_unused=True)
    unused = {weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is None}
    owned = {name: list(layer.parameters()) for name, layer in net.named_modules()}
    names = [name for name, weights in owned.items() if weights and unused.issuperset(weights)]
    return [name for name in names if name.rpartition(".")[0] not in names]  # whole, not part by part


def remove_layers(net: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        net.set_submodule(name, nn.Identity())
