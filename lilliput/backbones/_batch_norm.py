"""Batch norm over groups of a batch's images, as so many devices would have it, wherever the images are.

One process may hold several groups, several processes may hold one: then its statistics are those of all its images,
with the gradient of that, as in torch's SyncBatchNorm, which is for CUDA alone.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lilliput.errors import BadSetting
from lilliput.system.distributed import gather, rank, size

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
HALVES = (torch.bfloat16, torch.float16)


def split_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """Make every batch norm in `module` normalise `groups` parts of the batch apart, as so many devices would.

    Changes the layers' class, in place: names of the weights stay, and what the layer does besides (timm's fuse an
    activation) stays too.
    """
    for layer in module.modules():
        if isinstance(layer, BATCH_NORMS):
            layer.__class__ = _split_class(type(layer))  # type: ignore[arg-type]
            layer.groups = groups  # type: ignore[assignment]
    return module


def join_batch_norm(module: nn.Module, batch: int) -> None:
    """Make every batch norm in `module` one over the images of all processes, but for those that are split.

    BadSetting where the groups of these do not go into so many processes, at that batch of all of them, or the batch
    not into its groups: a process cannot hold a part of one.
    """
    if size() == 1:
        return
    for layer in [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS)]:
        groups: Any = getattr(layer, "groups", None)
        if groups is None:
            split_batch_norm(layer, 1)
        elif (groups := max(1, min(groups, batch // 2))) % size() and size() % groups:
            raise BadSetting(
                f"{groups} groups of batch norm do not go into {size()} processes: one number must divide the other; "
                f"choose another --groups, or as many processes"
            )
        elif batch % groups:
            raise BadSetting(
                f"a batch of {batch} does not go evenly into {groups} groups of batch norm, as {size()} processes "
                f"need: use --batch {batch // groups * groups}, or another --groups"
            )


@functools.cache
def _split_class(kind: Any) -> Any:
    def forward(self, images):
        whole = super(split, self).forward  # type: ignore[arg-type]
        groups = max(1, min(self.groups, len(images) * size() // 2))  # a group of one image has no variance
        if not self.training or groups == size() == 1:
            return whole(images)
        if size() > 1:
            with _Grouped(groups):
                normalised = whole(images)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(groups - 1)  # every group counts
            return normalised
        momentum = self.momentum
        if momentum is not None:  # all the parts together move the running statistics as far as one batch would
            self.momentum = 1 - (1 - momentum) ** (1 / groups)
        try:
            return torch.cat([whole(part) for part in images.tensor_split(groups)])
        finally:
            self.momentum = momentum

    split = type(f"Split{kind.__name__}", (kind,), {"forward": forward})
    return split


class _Grouped(TorchFunctionMode):
    """Within a layer's own `forward`, torch's batch norm is that of so many groups."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.batch_norm:
            return grouped_batch_norm(self.groups, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def grouped_batch_norm(
    groups: int,
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As torch's function in training, over groups of the whole batch; `images` [B, C, ...] are this process's.

    Group after group moves the running statistics, together as far as one batch would.
    """
    parts, sharing = max(1, groups // size()), max(1, size() // groups)  # groups here, processes that share one
    pieces = [images.float() if images.dtype in HALVES else images for images in images.tensor_split(parts)]
    found = torch.stack([_moments(piece) for piece in pieces])  # [parts, 2, C]
    everywhere = gather(found if sharing > 1 else found.detach()).unflatten(0, (groups, sharing))
    means, variances = everywhere.unbind(2)
    mean = means.mean(1)  # [groups, C], as all processes have as many images
    variance = (variances + (means - mean[:, None]).square()).mean(1)
    count = images.numel() // images.shape[1] // parts * sharing
    if running_mean is not None and running_var is not None:
        _move(running_mean, mean, momentum)
        _move(running_var, variance * (count / max(1, count - 1)), momentum)
    if sharing > 1:
        own = rank() // sharing
        found = torch.stack([mean[own], variance[own]])[None]
    normalised = [
        _normalised(piece, mean, variance, weight, bias, eps)
        for piece, (mean, variance) in zip(pieces, found, strict=True)
    ]
    return torch.cat(normalised).to(images.dtype)


def _moments(images: Tensor) -> Tensor:
    """[B, C, ...] -> mean and variance of each channel, [2, C]."""
    variance, mean = torch.var_mean(images, [axis for axis in range(images.ndim) if axis != 1], correction=0)
    return torch.stack([mean, variance])


def _normalised(
    images: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (1, -1, *[1] * (images.ndim - 2))
    return images * scale.view(shape) + shift.view(shape)


@torch.no_grad()
def _move(running: Tensor, found: Tensor, momentum: float) -> None:
    """The statistics of groups, [groups, C], one after another."""
    share = 1 - (1 - momentum) ** (1 / len(found))
    for values in found:
        running.lerp_(values.to(running.dtype), share)
