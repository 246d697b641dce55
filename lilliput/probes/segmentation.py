"""Segmentation: whether a place's features say that it is of the object, by nearest neighbours and by a linear layer.

The stages' maps brought to one grid and joined: Hariharan et al. (hypercolumns), CVPR 2015, section 3. Frozen features
and places as neighbours: Balažević et al. (Hummingbird), NeurIPS 2023, https://arxiv.org/abs/2306.01667, section 3.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.data.store import Images, spaced
from lilliput.probes import MaskedExam
from lilliput.probes.knn import vote
from lilliput.probes.linear import best_classifier
from lilliput.probes.saliency import with_objects
from lilliput.system.modes import evaluating
from lilliput.system.progress import task

checkpoints = "last"
BATCH = 16  # images at a time: a place has some thousand features
HELD_OUT = 10  # one image in ten chooses the weight decay


class Side(NamedTuple):
    """Images and what is to be said of their places: 1 where the object is."""

    images: Images
    truth: Tensor  # int64 [N, G, G]


def segmentation(exam: MaskedExam, *, most: int = 200, grid: int = 16, places: int = 8192, neighbours: int = 20):
    """Mean IoU of object and background (0..1) on a grid of places, with halves of 95 % intervals over images: of a
    linear layer and of nearest neighbours that know so many places of `most` training images with masks (where those
    have none, of every other test image with one), on at most so many others. Beside them what is had without a look
    at the image: all object, the mask of another image, and the mean of the masks that were learned from.
    Nothing where no masks tell an object from what is around it."""
    sides = _sides(exam, most, grid)
    if sides is None:
        return
    known, judged = sides
    yield "object_area", judged.truth.float().mean().item()
    yield "object_images", float(len(judged.images))
    guesses = {
        "all_object": torch.ones_like(judged.truth),
        "other_mask": judged.truth.roll(1, 0),
        "mean_mask": (known.truth.float().mean(0) > 0.5).long().expand_as(judged.truth),
        **_told(exam, known, judged, places, neighbours),
    }
    for name, guess in guesses.items():
        value, half = mean_iou(guess, judged.truth)
        yield f"miou_{name}", value
        yield f"miou_{name}_half", half


def mean_iou(guess: Tensor, truth: Tensor) -> tuple[float, float]:
    """0 or 1 [N, G, G] each -> the mean over both of intersection / union, each summed over all images, and half of
    its 95 % interval over images (the jackknife: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, 11.5)."""
    both = torch.stack([((guess == side) & (truth == side)).sum((1, 2)) for side in (0, 1)]).double()  # [2, N]
    either = torch.stack([((guess == side) | (truth == side)).sum((1, 2)) for side in (0, 1)]).double()
    whole_both, whole_either = both.sum(1, keepdim=True), either.sum(1, keepdim=True)
    without = ((whole_both - both) / (whole_either - either).clamp(min=1)).mean(0)  # [N]: of all other images
    count = len(without)
    deviation = math.sqrt((count - 1) / count * (without - without.mean()).square().sum().item())
    return (whole_both / whole_either.clamp(min=1)).mean().item(), 1.96 * deviation


def _sides(exam: MaskedExam, most: int, grid: int) -> tuple[Side, Side] | None:
    """To learn from, and to be judged by; None where either has no mask that shows an object and something else."""
    judged = with_objects(exam.masks, len(exam.masks))
    if exam.train_masks is None or not len(known := with_objects(exam.train_masks, most)):
        images, masks, known, judged = exam.test, exam.masks, judged[::2], judged[1::2]
        known = known[spaced(len(known), most)]
    else:
        images, masks = exam.train, exam.train_masks
    judged = judged[spaced(len(judged), most)]
    if len(known) < HELD_OUT or not len(judged):
        return None
    device = exam.plan.device
    return (
        Side(images.take(known), on_grid(masks[known], grid, device)),
        Side(exam.test.take(judged), on_grid(exam.masks[judged], grid, device)),
    )


def on_grid(masks: np.ndarray, grid: int, device: str) -> Tensor:
    """0 or 1 [N, H, H] -> [N, G, G]: 1 where more than half of a place is object."""
    whole = torch.as_tensor(np.array(masks), device=device).float()[:, None]
    return (F.adaptive_avg_pool2d(whole, grid).squeeze(1) > 0.5).long()


def _told(exam: MaskedExam, known: Side, judged: Side, places: int, neighbours: int) -> dict[str, Tensor]:
    """For each way of telling, [N, G, G] of the images to be judged by."""
    bank, labels, image = _places_of(exam, known, places)
    held_out = image % HELD_OUT == HELD_OUT - 1
    classify, _, _ = best_classifier(bank[~held_out], labels[~held_out], bank[held_out], labels[held_out], 2)
    scale = classify.std * _widths(exam, known.images).sqrt()  # so every stage counts alike for a distance
    near = (bank - classify.mean) / scale
    guesses: dict[str, list[Tensor]] = {"linear": [], "knn": []}
    for maps in _joined_maps(exam, judged):
        features = maps.permute(0, 2, 3, 1).flatten(0, 2)  # [B G G, D]
        shape = len(maps), *judged.truth.shape[1:]
        guesses["linear"].append(classify(features).argmax(1).view(shape))
        votes = vote((features - classify.mean) / scale, near, labels, 2, neighbours)["euclidean"]
        guesses["knn"].append(votes.view(shape))
    return {name: torch.cat(parts) for name, parts in guesses.items()}


def _places_of(exam: MaskedExam, side: Side, places: int) -> tuple[Tensor, Tensor, Tensor]:
    """At most so many places, as many of every image: features [P, D], what they are [P], and whose, a number [P].

    Drawn by the image's number, so that all encoders learn from the same.
    """
    count, each = side.truth[0].numel(), max(1, places // len(side.images))
    features, labels, number = [], [], 0
    for maps in _joined_maps(exam, side):
        for of_image in maps.flatten(2):  # [D, G G]
            drawn = torch.as_tensor(np.random.default_rng(number).permutation(count)[:each], device=maps.device)
            features.append(of_image[:, drawn].T)
            labels.append(side.truth[number].flatten()[drawn])
            number += 1
    image = torch.arange(number, device=features[0].device).repeat_interleave(min(each, count))
    return torch.cat(features), torch.cat(labels), image


def _joined_maps(exam: MaskedExam, side: Side) -> Iterator[Tensor]:
    """[B, D, G, G] of all stages, batch by batch."""
    size: Any = tuple(side.truth.shape[1:])
    with evaluating(exam.encoder), task(exam.titled("segmentation"), len(side.images)) as advance:
        for first in range(0, len(side.images), BATCH):
            pixels = side.images.load(slice(first, first + BATCH), exam.plan.device)
            with torch.inference_mode():
                maps = [_resized(stage, size) for stage in _stages(exam, pixels)]
            yield torch.cat(maps, 1)
            advance(len(pixels))


def _resized(maps: Tensor, size: Any) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)


def _stages(exam: MaskedExam, pixels: Tensor) -> list[Tensor]:
    with exam.plan.autocast():
        return [maps.float() for maps in exam.encoder.stages(pixels)]


@torch.inference_mode()
def _widths(exam: MaskedExam, images: Images) -> Tensor:
    """[D]: how many features the stage has that each of the joined ones is of."""
    with evaluating(exam.encoder):
        stages = _stages(exam, images.load(slice(0, 1), exam.plan.device))
    widths = [maps.shape[1] for maps in stages]
    return torch.tensor([float(width) for width in widths for _ in range(width)], device=stages[0].device)
