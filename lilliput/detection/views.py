"""What a detector is trained on: crops and reductions of images with their boxes, mirrored, their colours changed.

The augmentation of SSD (Liu et al., ECCV 2016, section 2.2), which is torchvision's; colours are changed on the device.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from lilliput.detection.boxes import BoxedImages
from lilliput.images import augment
from lilliput.system.plan import Plan
from lilliput.system.seeds import epoch_seed, seeded

GREY = 128  # around a reduced image
Target = dict[str, Tensor]  # boxes float [n, 4] in pixels, labels int64 [n]


def batches(images: BoxedImages, size: int, *, seed: int, plan: Plan) -> Iterator[tuple[Tensor, list[Target]]]:
    """Endless shuffled batches: images [B, 3, S, S] in 0..1, and their boxes; randomness from (seed, epoch)."""
    change = geometry(images.image_size)
    epoch = 0
    while True:
        epoch += 1
        number = epoch_seed(seed, epoch)
        order = np.random.default_rng(number).permutation(len(images))
        rng = plan.generator(number)
        for first in range(0, max(1, len(order) - size + 1), size):
            rows = order[first : first + size]
            with seeded(epoch_seed(number, first)):  # torchvision draws from the global generator
                changed = [change(tv_tensors.Image(images.pixels[row]), boxes_of(images, row)) for row in rows]
            pixels = torch.stack([image.as_subclass(torch.Tensor) for image, _ in changed]).to(plan.device)
            views = augment.colour_jitter_(
                pixels.float().div_(255), rng, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03
            )
            yield views, targets([target for _, target in changed], plan.device)


def geometry(size: int) -> v2.Transform:
    """Of one image and its boxes; boxes whose middle a crop leaves out are gone."""
    return v2.Compose(
        [
            v2.RandomZoomOut(fill=GREY, side_range=(1.0, 2.0), p=0.3),
            v2.RandomIoUCrop(),
            v2.Resize((size, size)),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(),
        ]
    )


def boxes_of(images: BoxedImages, row: int) -> Target:
    """Of an image, as torchvision's transforms take them; without those that are set aside."""
    kept = ~images.aside[row]
    canvas = (images.image_size, images.image_size)
    boxes: Any = tv_tensors.BoundingBoxes(images.boxes[row][kept], format="XYXY", canvas_size=canvas)  # type: ignore[call-overload]
    return {"boxes": boxes, "labels": images.labels[row][kept]}


def targets(found: Sequence[Target], device: str) -> list[Target]:
    """As torchvision's detectors take them."""
    return [{name: value.as_subclass(torch.Tensor).to(device) for name, value in target.items()} for target in found]
