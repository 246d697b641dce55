"""Thinner layers, in place: which convolutions may lose channels, found by a trace, and what else changes with them.

A channel may go where dense convolutions alone read it, by way of layers that keep channels apart: along a chain, and
inside a block. Where maps are added, joined or are the network's own, every channel stays.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lilliput.backbones._backbone import Backbone
from lilliput.backbones._batch_norm import BATCH_NORMS
from lilliput.backbones._depthwise import DepthwiseConv2d
from lilliput.backbones._one_place import OnePlaceConv2d
from lilliput.backbones._surgery import keep_rows
from lilliput.backbones._trial import measure
from lilliput.errors import BadSetting
from lilliput.system.modes import evaluating

CONVOLUTIONS = (nn.Conv2d, DepthwiseConv2d, OnePlaceConv2d)  # their subclasses may read their input otherwise
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardtanh, nn.Hardswish, nn.Sigmoid)
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
APART = (*ACTIVATIONS, *POOLINGS, nn.Identity, nn.Dropout, nn.Dropout2d)  # layers that have no numbers of their own
FUNCTIONS = (F.relu, F.relu6, F.silu, F.gelu, torch.relu)


@dataclass(frozen=True)
class Link:
    """A convolution, and all that its channels pass through to those that read them."""

    name: str  # of the convolution, in its network
    source: nn.Conv2d
    between: tuple[Any, ...]  # batch norms and depthwise convolutions
    readers: tuple[nn.Conv2d, ...]

    @property
    def channels(self) -> int:
        return self.source.out_channels

    def keep(self, rows: Tensor) -> None:
        """The channels of these numbers alone, in their order."""
        self.source.out_channels = len(rows)
        for layer in (self.source, *self.between):
            keep_rows(layer, rows)
        for layer in self.between:
            if isinstance(layer, nn.Conv2d):
                layer.in_channels = layer.out_channels = layer.groups = len(rows)
            else:
                layer.num_features = len(rows)
        for reader in self.readers:
            reader.in_channels = len(rows)
            reader.weight = nn.Parameter(reader.weight.detach()[:, rows])


def links(backbone: Backbone) -> list[Link]:
    """All of a network, in the order in which an image passes them; BadSetting where it cannot be traced."""
    tracer = _Layers()
    try:
        with evaluating(backbone):
            graph = tracer.trace(backbone)
    except Exception as error:  # whatever its code does with what is no tensor
        reason = " ".join(str(error).split())[:200]
        raise BadSetting(f"{backbone.name} cannot be traced, so its channels cannot be chosen ({reason})") from None
    layers = dict(backbone.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    return list(_links(graph, {name: layers[name] for name, times in calls.items() if times == 1}, layers))


def keep_channels(backbone: Backbone, kept: Mapping[str, int]) -> Backbone:
    """The backbone itself, with so many channels left, the first ones, of each convolution that is named.

    BadSetting where one is not there, or its channels may not go.
    """
    known = {link.name: link for link in links(backbone)}
    for name, count in kept.items():
        if name not in known:
            raise BadSetting(
                f"{backbone.name} has no convolution {name!r} that may lose channels; those that may are "
                f"{', '.join(known) or 'none'}"
            )
        if not 1 <= count <= known[name].channels:
            raise BadSetting(f"{count} channels of {name}, which has {known[name].channels} in {backbone.name}")
        known[name].keep(torch.arange(count))
    backbone.dims, _ = measure(backbone.net, backbone.stages, backbone.channels)
    return backbone


class _Layers(fx.Tracer):
    """Sees a network as its smallest layers; a batch norm with an activation of its own (timm's) is one."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BATCH_NORMS) or next(m.children(), None) is None


def _links(graph: fx.Graph, once: Mapping[Any, Any], layers: Mapping[Any, Any]) -> Iterator[Link]:
    """`once`: the layers that are called once; others' weights serve a second place, so nothing of them may go."""
    for node in graph.nodes:
        source: Any = once.get(node.target) if node.op == "call_module" else None
        if type(source) not in CONVOLUTIONS or source.groups != 1:
            continue
        between: list[Any] = []
        readers: list[Any] = []
        reached = list(node.users)
        for user in reached:
            layer = layers.get(user.target) if user.op == "call_module" else None
            if user.target in once and _is_dense(layer):
                readers.append(layer)
            elif (user.target in once and _is_own(layer)) or type(layer) in APART or user.target in FUNCTIONS:
                between += [layer] if _is_own(layer) else []
                reached += user.users
            else:
                break
        else:
            if readers:
                yield Link(node.target.removeprefix("net."), source, tuple(between), tuple(readers))


def _is_dense(layer: Any) -> bool:
    """A convolution whose filters see every channel, and nothing but zeros beyond the border."""
    if type(layer) not in CONVOLUTIONS or layer.groups != 1:
        return False
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _is_own(layer: Any) -> bool:
    """Of numbers for every channel apart: a batch norm, or a convolution of one filter a channel."""
    if isinstance(layer, BATCH_NORMS):
        return all(type(part) in APART for part in layer.children())
    return type(layer) in CONVOLUTIONS and layer.groups == layer.in_channels == layer.out_channels > 1
