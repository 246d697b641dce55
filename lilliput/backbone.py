"""Backbone: a classification network without its classifier; images in, maps of every stage and pooled features out.

The networks are torchvision's and timm's own, initialised as they initialise them, with no weights fetched.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

from lilliput.depthwise import quicken_depthwise
from lilliput.errors import BadSetting, UnknownName

Layer = Callable[[Tensor], Tensor]
Split = Callable[[Any], Sequence[Sequence[Layer]]]  # network -> the layers of every stage, in order

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRIAL_PIXELS = 64  # enough for five halvings; a network of fixed size is tried at its own
LARGEST_PIXELS = 512


class Backbone(nn.Module):
    """Images [B, channels, H, W] in 0..1 -> features [B, dim].

    `split` cuts the network into stages and is called at every forward, so it sees layers that were replaced or copied.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, split: Split, *, channels: int = 3, width: float = 1.0, name: str | None = None):
        super().__init__()
        self.net = net
        self.split = split
        self.channels = channels
        self.name = name or type(net).__name__.lower()
        silence_dropout(net)
        if width != 1:
            narrow(net, width)
        if channels != 3:
            replace_input(net, channels)
        quicken_depthwise(net)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
        # not persistent: the state dict holds nothing but the library's weights
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.dim = _width_of_maps(self, width)

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps at the end of every stage, [B, D_i, h_i, w_i]; the last are `maps`."""
        return _run(self.split(self.net), (images - self.mean) / self.std)

    def maps(self, images: Tensor) -> Tensor:
        """[B, dim, h, w]"""
        return self.stages(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """[B, dim]: the average of the maps over their places."""
        return self.maps(images).mean((2, 3))


def check_image_size(backbone: Backbone, image_size: int) -> None:
    """Raise BadSetting if the backbone cannot take square images of so many pixels."""
    if _takes(backbone, image_size):
        return
    larger = next((size for size in range(image_size + 1, LARGEST_PIXELS + 1) if _takes(backbone, size)), None)
    remedy = f"the next size that it takes is {larger}" if larger else f"nor any larger ones up to {LARGEST_PIXELS}"
    raise BadSetting(f"{backbone.name} cannot take images of {image_size} pixels; {remedy}")


def library_backbone(name: str, *, channels: int = 3, width: float = 1.0) -> Backbone:
    """Any classification network of timm or torchvision: "timm/resnet10t", "torchvision/resnet34"."""
    net = _library_network(name)
    silence_dropout(net)
    images, pooled = _what_is_pooled(net, name)
    split = _find_split(net, name, images, pooled)
    _remove_unused(net, split, images)
    return Backbone(net, split, channels=channels, width=width, name=name)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients, then as it was: a trial must not move the statistics of batch norm."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in training.items():
            part.training = mode


def _run(stages: Sequence[Sequence[Layer]], x: Tensor) -> list[Tensor]:
    ends = []
    for layers in stages:
        for layer in layers:
            x = layer(x)
        ends.append(x)
    return ends


# Changes to a network, in place


def silence_dropout(net: nn.Module) -> None:
    """Every kind of dropout drops nothing; the modules stay, for others read their `p`."""
    for module in net.modules():
        if "drop" in type(module).__name__.lower() or isinstance(module, torchvision.ops.StochasticDepth):
            for rate in ("p", "drop_prob", "prob"):
                if isinstance(getattr(module, rate, None), float):
                    setattr(module, rate, 0.0)


def narrow(net: nn.Module, width: float) -> None:
    """Keep the first `width` of the channels of every layer, and all of the image's.

    The weights are a slice of those that were drawn, enlarged by sqrt(old fan-in / new fan-in): a sum over fewer inputs
    then varies as much as before, which a network without normalisation needs.
    """
    if not 0 < width <= 1:
        raise BadSetting(f"width {width} is not in (0, 1]")
    first = _first_convolution(net)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            _narrow_convolution(module, width, keep_inputs=module is first)
        elif isinstance(module, nn.Linear):
            module.in_features = _part(module.in_features, width)
            module.out_features = _part(module.out_features, width)
            _slice_weight(module, (module.out_features, module.in_features))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.num_features = _part(module.num_features, width)
            _slice_vectors(module, module.num_features)
        elif isinstance(module, nn.GroupNorm):
            module.num_channels = _part(module.num_channels, width)
            _slice_vectors(module, module.num_channels)
        elif isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            module.normalized_shape = (_part(module.normalized_shape[0], width),)
            _slice_vectors(module, module.normalized_shape[0])


def replace_input(net: nn.Module, channels: int) -> None:
    """The first convolution takes so many channels, with weights drawn anew to give sums of the same size."""
    conv = _first_convolution(net)
    std = conv.weight.std().item() * math.sqrt(conv.in_channels / channels)
    conv.in_channels = channels
    shape = (conv.out_channels, channels, *conv.kernel_size)
    conv.weight = nn.Parameter(conv.weight.new_empty(shape).normal_(0, std))


def _first_convolution(net: nn.Module) -> nn.Conv2d:
    conv = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is None:
        raise BadSetting(f"{type(net).__name__} has no convolution, so its channels and width are fixed")
    return conv


def _narrow_convolution(conv: nn.Conv2d, width: float, *, keep_inputs: bool) -> None:
    per_group = conv.in_channels // conv.groups
    conv.out_channels = _part(conv.out_channels, width)
    if not keep_inputs:
        conv.in_channels = _part(conv.in_channels, width)
        if conv.groups > 1 and conv.in_channels % per_group == 0:  # fewer groups, each as wide as before
            conv.groups = conv.in_channels // per_group
    _slice_weight(conv, (conv.out_channels, conv.in_channels // conv.groups))


def _part(count: int, width: float) -> int:
    return max(1, round(count * width))


def _slice_weight(layer: nn.Conv2d | nn.Linear, shape: tuple[int, int]) -> None:
    fewer, inputs = shape
    gain = math.sqrt(layer.weight.shape[1] / inputs)
    layer.weight = nn.Parameter(layer.weight.detach()[:fewer, :inputs].clone() * gain)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[:fewer].clone())


def _slice_vectors(norm: nn.Module, count: int) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = getattr(norm, name, None)
        if isinstance(values, nn.Parameter):
            setattr(norm, name, nn.Parameter(values.detach()[:count].clone()))
        elif isinstance(values, Tensor):
            setattr(norm, name, values[:count].clone())


# Trials: what a backbone takes and gives


def _trial(backbone: Backbone, size: int) -> Tensor:
    images = torch.zeros(2, backbone.channels, size, size, device=backbone.mean.device, dtype=backbone.mean.dtype)
    with evaluating(backbone):
        return backbone.maps(images)  # [2, dim, h, w]


def _takes(backbone: Backbone, size: int) -> bool:
    try:
        return _trial(backbone, size).numel() > 0
    except Exception:  # whatever a library's layer raises means the same: no
        return False


def _width_of_maps(backbone: Backbone, width: float) -> int:
    for size in _trial_sizes(backbone.net):
        try:
            return _trial(backbone, size).shape[1]
        except Exception as error:  # as above
            reason = _first_line(error)
    if width != 1:
        raise BadSetting(
            f"{backbone.name} cannot be built at width {width} ({reason}); 1 fits, and 0.5 more often than others"
        )
    raise BadSetting(f"{backbone.name} gives no maps of {backbone.channels}-channel images ({reason})")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _trial_sizes(net: nn.Module) -> list[int]:
    own = getattr(net, "pretrained_cfg", None) or {}
    return [TRIAL_PIXELS, own.get("input_size", (3, 224, 224))[-1]]


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
    for size in _trial_sizes(net):
        images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        try:
            with evaluating(net):
                return images, getattr(net, "forward_features", partial(_head_input, net))(images)
        except Exception as error:  # as in `_takes`
            reason = _first_line(error)
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
        maps = _run(split(net), images)[-1]
        gradients = torch.autograd.grad(maps.sum(), weights, allow_unused=True)
    unused = {weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is None}
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if unused.issuperset(weights := list(child.parameters())) and weights:
                setattr(parent, name, nn.Identity())
