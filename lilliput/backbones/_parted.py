"""A large batch on a small machine: a network sees it part by part, and what lies between is reckoned anew for the
gradient, which is that of the whole batch; only batch norm sees the parts apart.

Chen, Xu, Zhang, Guestrin 2016, https://arxiv.org/abs/1604.06174; for losses that compare the images of a batch
(SimCLR's), Gao, Zhang, Han, Callan, RepL4NLP 2021, https://arxiv.org/abs/2101.06983.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lilliput.backbones._batch_norm import BATCH_NORMS


def in_parts(maps: Callable[[Tensor], list[Tensor]], images: Tensor, parts: int, network: nn.Module) -> list[Tensor]:
    """What `maps` of the network gives of the images [B, C, H, W], taken in so many parts one after another.

    Of a part nothing is kept for the backward pass but its images. The running statistics of batch norm move once, and
    by as much as one batch would move them.
    """
    pieces = images.tensor_split(min(parts, max(1, len(images) // 2)))  # a part of one image has no variance

    def contexts():  # of the first time that a part is seen, and of the second: the statistics have moved by then
        return nullcontext(), _batch_norm(network, share=len(pieces), still=True)

    def seen(piece: Tensor) -> list[Tensor]:
        again = torch.is_grad_enabled()
        return checkpoint(maps, piece, use_reentrant=False, context_fn=contexts) if again else maps(piece)

    with _batch_norm(network, share=len(pieces)):
        found = [seen(piece) for piece in pieces]
    return [torch.cat(of_stage) for of_stage in zip(*found, strict=True)]


@contextmanager
def _batch_norm(network: nn.Module, *, share: int, still: bool = False) -> Iterator[None]:
    """Batch norm as of one part of so many: its statistics move by that share, or stay; and a split one splits less."""
    layers = [layer for layer in network.modules() if isinstance(layer, BATCH_NORMS)]
    before = [(layer.momentum, layer.num_batches_tracked, getattr(layer, "groups", None)) for layer in layers]
    for layer, (momentum, _, groups) in zip(layers, before, strict=True):
        if still:
            layer.momentum, layer.num_batches_tracked = 0.0, None
        elif momentum is not None:
            layer.momentum = 1 - (1 - momentum) ** (1 / share)
        if groups is not None:
            layer.groups = -(-groups // share)
    try:
        yield
    finally:
        for layer, (momentum, tracked, groups) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, tracked
            if groups is not None:
                layer.groups = groups
