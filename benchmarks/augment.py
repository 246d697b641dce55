"""SimCLR's views: batched matrices and blocks against torchvision's per-image transforms, one thread each.

python -m benchmarks.augment
"""

import time
from collections.abc import Callable

import torch
import torchvision.transforms.v2 as reference

from lilliput import catalog

COUNT = 64


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'px':>4} {'ours, views/s':>14} {'torchvision':>12} {'ratio':>6}")
    for size in (32, 48, 96):
        ours, torchvisions = views_per_s(size)
        print(f"{size:4} {ours:14.0f} {torchvisions:12.0f} {ours / torchvisions:6.1f}")


def views_per_s(size: int, *, count: int = COUNT, times: int = 10) -> tuple[float, float]:
    """Views a second of a batch of `count` images: ours and torchvision's, each the best of so many times."""
    simclr = catalog.technique("simclr")(catalog.backbone_builder("shufflenet_v2"))
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, size, size)
    transform = torchvision_views(size)
    ours = best(lambda: simclr.views(images, rng), times)
    torchvisions = best(lambda: torch.stack([transform(image) for image in images]), times)
    return 2 * count / ours, count / torchvisions


def torchvision_views(size: int) -> reference.Compose:
    """The same view of one image: SimCLR at strength 1."""
    kernel = 2 * max(1, size // 10 // 2) + 1
    return reference.Compose(
        [
            reference.RandomResizedCrop(size, antialias=True),
            reference.RandomHorizontalFlip(),
            reference.RandomApply([reference.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            reference.RandomGrayscale(0.2),
            reference.RandomApply([reference.GaussianBlur(kernel, (0.1, 2.0))], p=0.5),
        ]
    )


def best(function: Callable[[], object], times: int) -> float:
    """Seconds of the quickest run: what else the machine does only ever adds."""
    function()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
