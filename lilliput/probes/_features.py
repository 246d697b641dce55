"""Features of images by an encoder: pooled, by stage, and how many dimensions they fill."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lilliput.backbones import BATCH_NORMS
from lilliput.data.store import Images, spaced
from lilliput.system.modes import evaluating
from lilliput.system.plan import Plan
from lilliput.system.progress import task

BATCH = 256  # images at a time
MEASURED = 1024  # images whose means and variances batch norm is given

T = TypeVar("T")


@torch.inference_mode()
def over_batches(
    function: Callable[[Tensor], T], images: Images, *, plan: Plan, batch: int = BATCH, label: str
) -> list[T]:
    """`function` of [B, 3, H, H], floats in 0..1 on the plan's device, for all images in batches, in their order."""
    results = []
    with task(label, len(images)) as advance:
        for first in range(0, len(images), batch):
            pixels = images.load(slice(first, first + batch), plan.device)
            results.append(function(pixels))
            advance(len(pixels))
    return results


@torch.inference_mode()
def extract(
    encoder: nn.Module,
    images: Images,
    *,
    plan: Plan,
    batch: int = BATCH,
    label: str = "features",
    change: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Features [N, dim] of all images, or of what `change` makes of each batch; in eval mode, on the plan's device."""

    def features(pixels: Tensor) -> Tensor:
        views = change(pixels) if change else pixels
        with plan.autocast():
            return encoder(views).float()

    with evaluating(encoder):
        return torch.cat(over_batches(features, images, plan=plan, batch=batch, label=label))


@torch.inference_mode()
def extract_stages(encoder: Any, images: Images, *, plan: Plan, label: str = "stages") -> list[Tensor]:
    """Of every stage [N, D_i], the average of its maps over their places; the last are `extract`'s features."""

    def means(pixels: Tensor) -> list[Tensor]:
        with plan.autocast():
            return [maps.mean((2, 3)).float() for maps in encoder.stages(pixels)]

    with evaluating(encoder):
        return [torch.cat(stage) for stage in zip(*over_batches(means, images, plan=plan, label=label), strict=True)]


@torch.no_grad()
def measure_batch_norm(encoder: nn.Module, images: Images, *, plan: Plan, batch: int = 128) -> bool:
    """Set the running statistics of every batch norm to their means over some of the images; False if it has none.

    An untrained network's are 0 and 1 and fit nothing: it normalises nothing until it is trained. Leaves the encoder in
    eval mode.
    """
    norms = [layer for layer in encoder.modules() if isinstance(layer, BATCH_NORMS)]
    if not norms:
        return False
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    rows = images.at_hand(spaced(len(images), MEASURED))
    parts = max(1, len(rows) // batch)
    encoder.train()
    for part in range(parts):  # each from the whole store, whatever its order
        with plan.autocast():
            encoder(images.load(rows[part::parts], plan.device))
    encoder.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return True


@contextmanager
def batch_norm_measured(encoder: nn.Module, images: Images, *, plan: Plan) -> Iterator[None]:
    """Within, the encoder is in eval mode and its batch norm as `measure_batch_norm` leaves it; then as it was."""
    kept = [(own, own.clone()) for norm in encoder.modules() if isinstance(norm, BATCH_NORMS) for own in norm.buffers()]
    with evaluating(encoder):
        try:
            measure_batch_norm(encoder, images, plan=plan)
            yield
        finally:
            for own, before in kept:
                own.copy_(before)


@torch.inference_mode()
def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the centred features' normalised singular values, 1..min(N, dim); features [N, dim].

    Roy, Vetterli, EUSIPCO 2007; Garrido et al. (RankMe), ICML 2023. Near 1: the encoder has collapsed.
    """
    return rank_of(singular_values(features))


def singular_values(features: Tensor) -> Tensor:
    """Of the centred features [N, dim], the largest first, in double precision on the CPU: no accelerator of every kind
    has doubles."""
    features = features.cpu().double()
    return torch.linalg.svdvals(features - features.mean(0))


def rank_of(values: Tensor) -> float:
    """The effective rank by the singular values."""
    share = values / values.sum().clamp(min=1e-12)
    return torch.special.entr(share).sum().exp().item()
