"""Technique: what every pretext technique promises, and the parts that several of them share."""

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor, nn

from lilliput.recipe import Recipe

BackboneBuilder = Callable[..., Any]  # (*, channels=3, width=1.0) -> Backbone
M = TypeVar("M", bound=nn.Module)


class Technique(nn.Module, ABC):
    """Built as X(make_backbone, *, options). Its state_dict holds all that a resumed run needs."""

    paper: ClassVar[Recipe]  # the settings its authors published
    small: ClassVar[Recipe]  # for thousands of images, batches of tens, one machine
    contrastive: ClassVar[str]  # "yes", "no" or "joint-embedding", for the table
    encoder: Any  # images [B, 3, H, W] in 0..1 -> features [B, dim]: what is saved and judged

    def __init__(self) -> None:
        super().__init__()
        self.measures: dict[str, Tensor] = {}  # of the last batch, for the log: name -> scalar

    @staticmethod
    def build_encoder(make_backbone: BackboneBuilder) -> Any:
        """The encoder alone, as a saved one is rebuilt."""
        return make_backbone()

    @abstractmethod
    def views(self, images: Tensor, rng: Generator) -> tuple[Tensor, ...]:
        """[B, 3, H, W] in 0..1 -> what `loss` takes. Holds all of the technique's randomness."""

    @abstractmethod
    def loss(self, *views: Tensor) -> Tensor:
        """Scalar; its gradient reaches every parameter of the encoder."""

    def guessing(self, batch: int) -> float | None:
        """The loss of a network that tells nothing apart, in a batch of so many images; None where the images decide,
        which then is the measure `loss_of_guessing`."""
        return None

    def after_step(self, progress: float) -> None:
        """Move targets and queues. `progress` is the share of training done, 0..1."""


def full_precision(function: Callable) -> Callable:
    """Run in fp32 whatever the mixed precision around: softmax and norms lose too much in 16 bits."""

    @functools.wraps(function)
    def wrapped(*tensors, **options):
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(*(t.float() if t.is_floating_point() else t for t in tensors), **options)

    return wrapped


def mlp(*widths: int, norm: bool = True, norm_last: bool = False) -> nn.Sequential:
    """Linear layers of the given widths, (batch norm and) ReLU between them; after the last nothing, or batch norm."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers.append(nn.Linear(inputs, outputs, bias=last or not norm))
        if not last:
            layers += [nn.BatchNorm1d(outputs)] * norm + [nn.ReLU(inplace=True)]
    if norm_last:
        layers.append(nn.BatchNorm1d(widths[-1]))
    return nn.Sequential(*layers)


def frozen_copy(module: M) -> M:
    """A copy without gradients, its batch norm still in the module's mode."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def move_towards(target: nn.Module, source: nn.Module, share: float) -> None:
    """target <- target + share (source - target), for every parameter; buffers follow their own batches."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), share)


def split_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """Make every batch norm in `module` normalise `groups` parts of the batch apart, as so many devices would.

    Changes the layers' class, in place: names of the weights stay, and what the layer does besides (timm's fuse an
    activation) stays too.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.__class__ = _split_class(type(layer))  # type: ignore[arg-type]
            layer.groups = groups  # type: ignore[assignment]
    return module


@functools.cache
def _split_class(kind: Any) -> Any:
    def forward(self, images):
        whole = super(split, self).forward  # type: ignore[arg-type]
        groups = min(self.groups, len(images) // 2)  # a part of one image has no variance
        if not self.training or groups < 2:
            return whole(images)
        momentum = self.momentum
        if momentum is not None:  # all the parts together move the running statistics as far as one batch would
            self.momentum = 1 - (1 - momentum) ** (1 / groups)
        try:
            return torch.cat([whole(part) for part in images.tensor_split(groups)])
        finally:
            self.momentum = momentum

    split = type(f"Split{kind.__name__}", (kind,), {"forward": forward})
    return split
