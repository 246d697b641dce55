"""Changes to a network, in place: another stem, narrower, other inputs, without dropout."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from lilliput.backbones._batch_norm import BATCH_NORMS
from lilliput.backbones._trial import (
    Split,
    TrialFailed,
    at_fitting_size,
    black_images,
    measure,
    run_stages,
    watching,
)
from lilliput.errors import BadSetting
from lilliput.system.modes import evaluating

STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)  # the kinds of layers that may be made to keep the resolution
STEMS = {"stock": 0, "half": 1, "quarter": 2}  # the halvings of the resolution that are taken out


def silence_dropout(net: nn.Module) -> None:
    """Every kind of dropout drops nothing; the modules stay, for others read their `p`."""
    for module in net.modules():
        if "drop" in type(module).__name__.lower() or isinstance(module, torchvision.ops.StochasticDepth):
            for rate in ("p", "drop_prob", "prob"):
                if isinstance(getattr(module, rate, None), float):
                    setattr(module, rate, 0.0)


def set_stem(net: nn.Module, split: Split, stem: str, *, name: str) -> None:
    """Divide the strides of the network `name` by 2 ("half") or 4 ("quarter"), by taking out its first halvings.

    A convolution or a pooling of stride 2 gets stride 1, one of stride 4 gets 2 or 1; a pooling that covers each place
    once goes. Weights, their names and their shapes stay. Raises BadSetting where that does not divide the strides of
    every stage, for instance if the first layer cuts patches or the network has a low pass of its own.
    """
    if stem not in STEMS:
        raise BadSetting(f"stem {stem!r} is none of {', '.join(STEMS)}")
    if not STEMS[stem]:
        return
    try:
        stock = measure(net, lambda images: run_stages(split(net), images), 3).strides
        for layer, stride in _first_strides(net, split, STEMS[stem]).items():
            _set_stride(net, layer, stride)
        changed = measure(net, lambda images: run_stages(split(net), images), 3).strides
    except (TrialFailed, _OddStem) as reason:
        raise BadSetting(f"{name} cannot be built with stem {stem!r}: {reason}") from None
    if changed != (wanted := tuple(max(1, stride // 2 ** STEMS[stem]) for stride in stock)):
        raise BadSetting(f"{name} cannot be built with stem {stem!r}: its strides would be {changed}, not {wanted}")


class _OddStem(Exception):
    """What halves the resolution is not a plain layer of stride 2 or 4."""


def _first_strides(net: nn.Module, split: Split, count: int) -> dict[str, int]:
    """The layers that make the first `count` halvings, branches side by side too, and the strides without these.

    Raises TrialFailed, or _OddStem where no layer makes one of them, or one of an odd stride or of patches does.
    """
    strided = {name: layer for name, layer in net.named_modules() if isinstance(layer, STRIDED) and _stride(layer) != 1}

    def trial(size: int) -> dict[str, int]:
        met: dict[str, int] = {}  # a layer -> the halvings before it

        def sort_in(layer: str, maps: Tensor) -> None:
            met.setdefault(layer, round(math.log2(size / maps.shape[-1])))

        with evaluating(net), torch.no_grad(), watching(strided, sort_in):
            run_stages(split(net), black_images(net, 3, size))
        return {layer: before for layer, before in met.items() if before < count}

    first = at_fitting_size(net, trial)
    left: dict[str, int] = {}
    made: set[int] = set()
    for name, before in first.items():
        stride = _stride(strided[name])
        if stride != 2 and (stride != 4 or _kernel(strided[name]) == 4):
            raise _OddStem(f"its layer {name} has stride {stride}")
        halvings = range(before, min(count, before + stride.bit_length() - 1))
        left[name] = stride >> len(halvings)
        made.update(halvings)
    for halving, which in zip(range(count), ("first", "second"), strict=False):
        if halving not in made:
            raise _OddStem(f"what halves its maps for the {which} time is neither a convolution nor a pooling")
    return left


def _set_stride(net: nn.Module, name: str, stride: int) -> None:
    layer: Any = net.get_submodule(name)
    if stride == 1 and not isinstance(layer, nn.Conv2d) and _kernel(layer) == 2:
        net.set_submodule(name, nn.Identity())
    else:
        layer.stride = (stride, stride)


def _stride(layer: Any) -> int | tuple[int, int]:
    return _one_number(layer.stride)


def _kernel(layer: Any) -> int | tuple[int, int]:
    return _one_number(layer.kernel_size)


def _one_number(sides: int | tuple[int, int]) -> int | tuple[int, int]:
    """As one where both are the same."""
    return sides[0] if isinstance(sides, tuple) and sides[0] == sides[1] else sides


def entrances(net: nn.Module, split: Split) -> list[nn.Conv2d]:
    """The convolutions that are given the image itself: several where branches lie side by side.

    The network's first where none is, for the image is changed before. Raises BadSetting where there is no convolution.
    """
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)}
    if not layers:
        raise BadSetting(f"{type(net).__name__} has no convolution, so its channels and width are fixed")

    def trial(size: int) -> list[nn.Conv2d]:
        images, met = black_images(net, 3, size), []
        with evaluating(net), torch.no_grad(), watching(layers, lambda name, x: met.append((name, x is images))):
            run_stages(split(net), images)
        return [layers[name] for name, is_image in met if is_image]

    with suppress(TrialFailed):  # told when the stages are measured
        return at_fitting_size(net, trial) or [next(iter(layers.values()))]
    return [next(iter(layers.values()))]


def narrow(net: nn.Module, width: float, fed: Sequence[nn.Conv2d]) -> None:
    """Keep the first `width` of the channels of every layer, and all of the image's, which is what `fed` are given.

    The weights are a slice of those that were drawn, enlarged by sqrt(old fan-in / new fan-in): a sum over fewer inputs
    then varies as much as before, which a network without normalisation needs.
    """
    if not 0 < width <= 1:
        raise BadSetting(f"width {width} is not in (0, 1]")
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            _narrow_convolution(module, width, keep_inputs=module in fed)
        elif isinstance(module, nn.Linear):
            module.in_features = _part(module.in_features, width)
            module.out_features = _part(module.out_features, width)
            _slice_weight(module, (module.out_features, module.in_features))
        elif isinstance(module, BATCH_NORMS):
            module.num_features = _part(module.num_features, width)
            keep_rows(module, slice(module.num_features))
        elif isinstance(module, nn.GroupNorm):
            module.num_channels = _part(module.num_channels, width)
            keep_rows(module, slice(module.num_channels))
        elif isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            module.normalized_shape = (_part(module.normalized_shape[0], width),)
            keep_rows(module, slice(module.normalized_shape[0]))
        scale: Any = getattr(module, "gamma", None)  # timm's layer scales
        if isinstance(scale, nn.Parameter):
            module.gamma = nn.Parameter(scale.detach()[: _part(len(scale), width)].clone())


def replace_input(fed: Sequence[nn.Conv2d], channels: int) -> None:
    """The convolutions `fed` with the image take so many channels, with weights drawn anew to give sums of the same
    size."""
    for conv in fed:
        std = conv.weight.std().item() * math.sqrt(conv.in_channels / channels)
        conv.in_channels = channels
        shape = (conv.out_channels, channels, *conv.kernel_size)
        conv.weight = nn.Parameter(conv.weight.new_empty(shape).normal_(0, std))


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


def keep_rows(layer: nn.Module, rows: slice | Tensor) -> None:
    """Of a norm's vectors, or a convolution's filters with their biases, these alone."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = getattr(layer, name, None)
        if isinstance(values, nn.Parameter):
            setattr(layer, name, nn.Parameter(values.detach()[rows].clone()))
        elif isinstance(values, Tensor):
            setattr(layer, name, values[rows].clone())
