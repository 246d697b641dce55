"""Features of images by an encoder: pooled, by stage, and how many dimensions they fill."""

from typing import Any

import torch
from torch import Tensor, nn

from lilliput.data.store import Images, spaced
from lilliput.system.plan import Plan
from lilliput.system.progress import task

MEASURED = 1024  # images whose means and variances batch norm is given


@torch.inference_mode()
def extract(encoder: nn.Module, images: Images, *, plan: Plan, batch: int = 256, label: str = "") -> Tensor:
    """Features [N, dim] of all images, in eval mode, in the store's order; on the plan's device."""
    was_training = encoder.training
    encoder.eval()
    parts = []
    with task(label or "features", len(images)) as advance:
        for first in range(0, len(images), batch):
            views = images.load(slice(first, first + batch), plan.device)
            with plan.autocast():
                parts.append(encoder(views).float())
            advance(len(views))
    encoder.train(was_training)
    return torch.cat(parts)


@torch.inference_mode()
def extract_stages(encoder: Any, images: Images, *, plan: Plan, batch: int = 256, label: str = "") -> list[Tensor]:
    """Of every stage [N, D_i], the average of its maps over their places; the last are `extract`'s features."""
    encoder.eval()
    parts = []
    with task(label or "stages", len(images)) as advance:
        for first in range(0, len(images), batch):
            views = images.load(slice(first, first + batch), plan.device)
            with plan.autocast():
                parts.append([maps.mean((2, 3)).float() for maps in encoder.stages(views)])
            advance(len(views))
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


@torch.no_grad()
def measure_batch_norm(encoder: nn.Module, images: Images, *, plan: Plan, batch: int = 128) -> bool:
    """Set the running statistics of every batch norm to their means over some of the images; False if it has none.

    An untrained network's are 0 and 1 and fit nothing: it normalises nothing until it is trained.
    """
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return False
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    places = spaced(len(images), MEASURED)
    parts = max(1, len(places) // batch)
    encoder.train()
    for part in range(parts):  # each from the whole store, whatever its order
        with plan.autocast():
            encoder(images.load(places[part::parts], plan.device))
    encoder.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return True


@torch.inference_mode()
def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the centred features' normalised singular values, 1..min(N, dim).

    Roy, Vetterli, EUSIPCO 2007; Garrido et al. (RankMe), ICML 2023. Near 1: the encoder has collapsed.
    """
    features = features.cpu().double()
    values = torch.linalg.svdvals(features - features.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return torch.special.entr(share).sum().exp().item()
