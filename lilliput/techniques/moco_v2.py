"""MoCo v2: tell the other view of an image from a queue of past images, seen by a slowly moving copy of the network.

He, Fan, Wu, Xie, Girshick, CVPR 2020, https://arxiv.org/abs/1911.05722, section 3;
Chen, Fan, Girshick, He 2020, https://arxiv.org/abs/2003.04297, for the head, the blur and the cosine.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.backbones import split_batch_norm
from lilliput.errors import BadSetting
from lilliput.images import augment, draws
from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.system.distributed import gather, own
from lilliput.techniques import Technique, frozen_copy, full_precision, mlp, move_towards


class MoCoV2(Technique):
    """Queries by the trained encoder, keys by its moving average; keys of past batches are the negatives."""

    queue: Tensor  # [K, output]
    oldest: Tensor  # the place of the key that has been in the queue the longest

    contrastive = "yes"
    paper = Recipe("sgd", lr=0.03, batch=256, epochs=200, weight_decay=1e-4, decay_vectors=True)
    small = SMALL.replace(options={"momentum": 0.99, "queue": 256, "groups": 2, "norm": True, "blur": 0.0})
    large = LARGE.replace(options={"momentum": 0.99, "queue": 4096})

    def __init__(
        self,
        make_backbone,
        *,
        temperature: Annotated[float, "> 0"] = 0.2,
        momentum: Annotated[float, ">= 0, <= 1"] = 0.999,
        queue: Annotated[int, ">= 1"] = 65536,
        output: Annotated[int, ">= 1"] = 128,
        groups: Annotated[int, ">= 1"] = 8,
        norm: bool = False,
        linear: bool = False,
        area: Annotated[float, "> 0, <= 1"] = 0.2,
        grey: Annotated[float, ">= 0, <= 1"] = 0.2,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
        small_views: Annotated[int, ">= 0"] = 0,
        small_area: Annotated[float, "> 0.05, <= 1"] = 0.3,
        small_weight: Annotated[float, ">= 0, <= 1"] = 0.6,
    ):
        super().__init__()
        if queue < 1:
            raise BadSetting(f"queue {queue} must hold at least one key")
        self.encoder = self.build_encoder(make_backbone)
        self.head = mlp(*[self.encoder.dim] * (1 if linear else 2), output, norm=norm)
        # Batch norm tells which keys belong to which queries. The authors shuffle keys between devices; on one
        # device batch norm ignores order, so its statistics are split instead, and the keys' groups are shuffled.
        split_batch_norm(self.encoder, groups)
        split_batch_norm(self.head, groups)
        self.key = frozen_copy(nn.Sequential(self.encoder, self.head))
        self.temperature, self.momentum = temperature, momentum
        self.area, self.grey, self.blur = area, grey, blur
        self.small_views, self.small_area, self.small_weight = small_views, small_area, small_weight
        self.register_buffer("queue", F.normalize(torch.randn(queue, output), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def views(self, images, rng):
        order = draws.order(len(images), rng)
        whole = {"area": (self.area, 1.0)}
        views = self._view(images, rng, **whole), self._view(images, rng, **whole), order
        return *views, *augment.small_views(self.small_views, self._view, images, rng, self.small_area)

    def _view(self, images, rng, **crop):
        images = augment.resized_crop(images, rng, **crop)
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        images = augment.grey_(images, rng, p=self.grey)
        return augment.blur_(images, rng, p=self.blur)

    def forward(self, one, two, order, small=None):
        queries = self.head(self.encoder(one))
        with torch.no_grad():
            keys = gather(self.key(own(gather(two)[order])))[order.argsort()]
            self.keys = F.normalize(keys.float(), dim=1)  # of the whole batch
        logits = moco_logits(queries, own(self.keys), self.queue, temperature=self.temperature)
        self.measures["key_found"] = (logits.argmax(1) == 0).float().mean()
        if small is None:
            return missed(logits)
        # an image's small views one after another, so that they are in its group
        small = small.unflatten(0, (-1, len(one))).transpose(0, 1).flatten(0, 1)
        queries, keys = self.head(self.encoder(small)), own(self.keys).repeat_interleave(len(small) // len(one), 0)
        of_small = moco_logits(queries, keys, self.queue, temperature=self.temperature)
        return torch.lerp(missed(logits), missed(of_small), self.small_weight)

    def guessing(self, batch):
        return math.log(1 + len(self.queue))

    @torch.no_grad()
    def after_step(self, progress):
        super().after_step(progress)
        move_towards(self.key[0], self.encoder, 1 - self.momentum)
        move_towards(self.key[1], self.head, 1 - self.momentum)
        newest = self.keys[-len(self.queue) :]  # a batch may be larger than the queue
        places = (self.oldest + torch.arange(len(newest), device=newest.device)) % len(self.queue)
        self.queue[places] = newest
        self.oldest.add_(len(newest)).remainder_(len(self.queue))


def missed(logits: Tensor) -> Tensor:
    """Mean of -log softmax of each query's own key, the first."""
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@full_precision
def moco_logits(queries: Tensor, keys: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """[B, D], [B, D], [K, D] -> [B, 1 + K]: similarity of each query to its own key, then to the whole queue."""
    queries = F.normalize(queries, dim=1)
    own = (queries * keys).sum(1, keepdim=True)
    return torch.cat([own, queries @ queue.T], dim=1) / temperature
