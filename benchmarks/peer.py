"""lightly's documented recipes (extra `bench`) on our networks, for comparison.

`examples` are those of https://docs.lightly.ai/examples; `cifar10` and `imagenette` those by which lightly's own
benchmarks train ResNet-18 (docs/source/getting_started/benchmarks of its repository), at 32 and at 128 px: its views,
heads, losses and SGD, a data loader with a worker per core. Ours are: the network, with the same initial weights, of
plain torch layers; pixels are normalised once, by the network, as it is trained and judged, so the views leave that
out; batch norm in parts, which lightly has for its own ResNet alone; a cosine falls step by step, where theirs falls
epoch by epoch. The momentum of the targets is the benchmarks' in all (the examples' rises from .996 to 1).
"""

import copy
import math
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """What both sides pretrain, and on which images."""

    technique: str
    backbone: str
    size: int  # pixels
    batch: int
    pool: str  # a folder of images
    seed: int = 0


@dataclass(frozen=True)
class Recipes:
    """Of some techniques, and the SGD that they share."""

    built: "dict[str, Callable[[Any, int], Built]]"
    rate: float = 0.06  # for a batch of so many images as `rate_of`, in proportion; without, whatever the batch
    rate_of: int | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    cosine: bool = False


Running = tuple[str, Generator[int], Any]
"""A side under way: the plan that it runs by, how many images each step learned from, without end, and its encoder."""
Built = tuple[Any, Any, Callable]
"""A recipe on a network: its transform of an image, all that is trained, and the loss of two views."""


def lightly(
    case: Case,
    recipe: str = "examples",
    *,
    steps: int | None = None,
    folders: Sequence[Path] = (),
) -> Running:
    """On the images of these folders or of the pool; a cosine ends after `steps`."""
    import torch
    from torch.utils.data import DataLoader

    from lilliput.system.seeds import seeded

    recipes = DOCUMENTED[recipe]
    with seeded(case.seed):
        network = plain_network(case.backbone)
        transform, model, loss_of = recipes.built[case.technique](network, case.size)
    images = images_of(folders or [Path(case.pool)], transform)
    draws = torch.Generator().manual_seed(case.seed)  # of the order of the images, and of the workers' seeds
    loader = DataLoader(
        images, batch_size=case.batch, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1, generator=draws
    )
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipes.rate * (case.batch / recipes.rate_of if recipes.rate_of else 1),
        momentum=recipes.momentum,
        weight_decay=recipes.weight_decay,
    )
    falling = (lambda step: (1 + math.cos(math.pi * min(1, step / steps))) / 2) if recipes.cosine and steps else None
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, falling or (lambda step: 1))

    def run() -> Generator[int]:
        model.train()
        while True:
            for views, *_ in loader:
                loss = loss_of(*views)
                loss.backward()
                optimiser.step()
                schedule.step()
                optimiser.zero_grad()
                yield case.batch

    return "fp32", run(), network


def plain_network(backbone: str) -> Any:
    """Ours with its pooling, without the layers that make ours quicker."""
    import torch

    from lilliput.backbones._depthwise import DepthwiseConv2d
    from lilliput.backbones._one_place import OnePlaceConv2d
    from lilliput.backbones._surgery import silence_dropout
    from lilliput.catalog import backbone_builder

    network = backbone_builder(backbone)()
    for layer in network.modules():
        if isinstance(layer, DepthwiseConv2d | OnePlaceConv2d):
            layer.__class__ = torch.nn.Conv2d  # type: ignore[assignment]
    silence_dropout(network)
    return network


def images_of(folders: Sequence[Path], transform: Any) -> Any:
    """The images below all these folders, as lightly reads them."""
    import torch
    from lightly.data import LightlyDataset

    parts: list[Any] = [LightlyDataset(str(folder), transform=transform) for folder in folders]
    return torch.utils.data.ConcatDataset(parts)


def simclr(network: Any, size: int, *, strength: float = 1.0, blur: float = 0.5) -> Built:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torch import nn

    model = nn.Sequential(network, SimCLRProjectionHead(network.dim, network.dim, 128))
    criterion = NTXentLoss()
    transform = SimCLRTransform(input_size=size, cj_strength=strength, gaussian_blur=blur, normalize=None)
    return transform, model, lambda one, two: criterion(model(one), model(two))


def moco(
    network: Any,
    size: int,
    *,
    hidden: int | None = None,
    temperature: float = 0.5,
    strength: float | None = None,
    blur: float = 0.5,
    symmetric: bool = False,
    splits: int = 1,
) -> Built:
    """With the views of MoCo v2, or of SimCLR at a strength of its colours; batch norm in so many parts of a batch."""
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import MoCoV2Transform, SimCLRTransform
    from torch import nn

    from lilliput.backbones import split_batch_norm

    if splits > 1:
        split_batch_norm(network, splits)
    model = nn.Sequential(network, MoCoProjectionHead(network.dim, hidden or network.dim, 128))
    key = copy.deepcopy(model)
    deactivate_requires_grad(key)
    criterion = NTXentLoss(temperature=temperature, memory_bank_size=(4096, 128))

    def half(queries, others):
        order = torch.randperm(len(others))  # so that a key's part of the batch does not tell its query's
        with torch.no_grad():
            keys = key(others[order])[order.argsort()]
        return criterion(model(queries), keys)

    def loss_of(one, two):
        update_momentum(model, key, m=0.99)
        return (half(one, two) + half(two, one)) / 2 if symmetric else half(one, two)

    if strength is None:
        return MoCoV2Transform(input_size=size, normalize=None), model, loss_of
    transform = SimCLRTransform(input_size=size, cj_strength=strength, gaussian_blur=blur, normalize=None)
    return transform, model, loss_of


def byol(network: Any, size: int, *, hidden: int = 1024, blurs: tuple[float, float] = (1.0, 0.1)) -> Built:
    import torch
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from torch import nn

    online = nn.Sequential(network, BYOLProjectionHead(network.dim, hidden, 256))
    target = copy.deepcopy(online)
    deactivate_requires_grad(target)
    predict = BYOLPredictionHead(256, hidden, 256)
    criterion = NegativeCosineSimilarity()

    def loss_of(one, two):
        update_momentum(online, target, m=0.99)
        with torch.no_grad():
            target_one, target_two = target(one), target(two)
        return (criterion(predict(online(one)), target_two) + criterion(predict(online(two)), target_one)) / 2

    views = [
        view(input_size=size, gaussian_blur=blur, normalize=None)
        for view, blur in zip((BYOLView1Transform, BYOLView2Transform), blurs, strict=True)
    ]
    return BYOLTransform(*views), nn.ModuleList([online, predict]), loss_of


_SGD: dict[str, Any] = {"momentum": 0.9, "weight_decay": 5e-4, "cosine": True}
_MOCO: dict[str, Any] = {"temperature": 0.1, "strength": 0.5, "symmetric": True}
DOCUMENTED = {
    "examples": Recipes({"simclr": simclr, "moco_v2": moco, "byol": byol}),
    "cifar10": Recipes(
        {
            "simclr": partial(simclr, strength=0.5, blur=0.0),
            "moco_v2": partial(moco, hidden=512, blur=0.0, splits=8, **_MOCO),
            "byol": partial(byol, hidden=1024, blurs=(0.0, 0.0)),
        },
        rate_of=128,
        **_SGD,
    ),
    "imagenette": Recipes(
        {
            "simclr": partial(simclr, strength=0.5),
            "moco_v2": partial(moco, hidden=2048, **_MOCO),
            "byol": partial(byol, hidden=4096),
        },
        rate_of=256,
        **_SGD,
    ),
}
