"""Parts that several techniques share."""

import copy
import functools
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.optim import foreach
from lilliput.system.distributed import gather

M = TypeVar("M", bound=nn.Module)


def full_precision(function: Callable) -> Callable:
    """Run in fp32 whatever the mixed precision around: softmax and norms lose too much in 16 bits."""

    @functools.wraps(function)
    def wrapped(*tensors, **options):
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(*(t.float() if t.is_floating_point() else t for t in tensors), **options)

    return wrapped


def mlp(*widths: int, norm: bool = True, norm_last: bool = False, bias_last: bool = True) -> nn.Sequential:
    """Linear layers of the given widths, (batch norm and) ReLU between them; after the last nothing, or batch norm.

    A layer that batch norm follows has no bias: the norm would take it away again.
    """
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers.append(nn.Linear(inputs, outputs, bias=bias_last and not norm_last if last else not norm))
        if not last:
            layers += [nn.BatchNorm1d(outputs)] * norm + [nn.ReLU(inplace=True)]
    if norm_last:
        layers.append(nn.BatchNorm1d(widths[-1]))
    return nn.Sequential(*layers)


def own_places(small: Tensor, whole: Tensor) -> Tensor:
    """[S B]: which of B images each of S small views apiece is of, image after image, and then the next of each."""
    return torch.arange(len(whole), device=whole.device).repeat(len(small) // len(whole))


@torch.no_grad()
def spread(projections: Tensor) -> Tensor:
    """[B, D] -> how far the normalised projections of a batch lie apart: 1 in all directions, 0 all in one.

    Chen, He, SimSiam, CVPR 2021, figure 2, times the square root of D.
    """
    unit = F.normalize(gather(projections).float(), dim=1)
    return unit.std(0).mean() * unit.shape[1] ** 0.5


@functools.cache
def constant(values: tuple, device: torch.device) -> Tensor:
    """A tensor of these numbers, or rows of numbers, brought to the device once: a program waits for what it sends."""
    return torch.tensor(values, device=device)


def counted(numbers: Tensor, count: int) -> Tensor:
    """How often each of 0..count - 1 is among the numbers, [count]; torch.bincount makes the program wait for CUDA."""
    places = numbers.flatten()
    return places.new_zeros(count).scatter_add_(0, places, torch.ones_like(places))


def frozen_copy(module: M) -> M:
    """A copy without gradients, its batch norm still in the module's mode."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def move_towards(target: nn.Module, source: nn.Module, share: float) -> None:
    """target <- target + share (source - target), for every parameter; buffers follow their own batches."""
    foreach.lerp_(list(target.parameters()), list(source.parameters()), share)
