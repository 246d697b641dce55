"""Saliency: which pixels the score of an image's class hangs on, and whether they are the object's.

|Gradient|: Simonyan, Vedaldi, Zisserman, 2014 (figure 3 of the study that we follow). SmoothGrad: Smilkov et al., 2017.
Integrated Gradients: Sundararajan, Taly, Yan, ICML 2017. Grad-CAM: Selvaraju et al., ICCV 2017. The first three are
captum's. The pointing game: Zhang et al., ECCV 2016.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.data.store import spaced
from lilliput.errors import wanted
from lilliput.probes import MaskedExam, half_interval
from lilliput.probes.linear import Classifier, fitted
from lilliput.system.modes import evaluating
from lilliput.system.seeds import seeded

checkpoints = "last"
BATCH = 64  # images at a time: gradients need more memory than features
METHODS = ("gradient", "smoothgrad", "integrated_gradients", "grad_cam")


def saliency(exam: MaskedExam, *, most: int = 200, methods: tuple[str, ...] = METHODS):
    """For test images with a mask: the share of the saliency of their own class that lies on the object, and how often
    its highest point does; whole and by class, with halves of 95 % intervals, what that share is more than

    - the object's share of the image (`on_object_gain`), which any map that is stronger in the middle is above, for
      there objects are;
    - the shares that the same maps have under the masks of other images of the class (`on_object_own_gain`): above
      zero where the saliency follows the object.

    Nothing where no mask tells an object from what is around it."""
    rows = with_objects(exam.masks, most)
    if not len(rows):
        return
    masks = torch.as_tensor(np.array(exam.masks[rows]), device=exam.plan.device).float()
    labels = exam.test_labels[torch.as_tensor(rows, device=exam.plan.device)]
    area, others = masks.mean((1, 2)), labels.bincount()[labels] - 1
    yield "object_area", area.mean().item()
    yield "object_images", float(len(rows))
    yield "on_object_own_images", float((others > 0).sum())
    images = exam.test.load(rows, exam.plan.device)
    for method in methods:
        maps = saliency_maps(exam.encoder, exam.once(fitted).classify, images, labels, method)
        share, hit = on_object(maps, masks)
        gain = share - area
        yield f"on_object_{method}", share.mean().item()
        yield f"on_object_gain_{method}", gain.mean().item()
        yield f"on_object_gain_{method}_half", half_interval(gain)
        yield f"pointing_{method}", hit.mean().item()
        yield from _by_class(f"on_object_gain_{method}", gain, labels, exam.classes)
        own_gain = gain_over_others(maps, masks, labels)
        if (known := own_gain[own_gain.isfinite()]).numel() > 1:
            yield f"on_object_own_gain_{method}", known.mean().item()
            yield f"on_object_own_gain_{method}_half", half_interval(known)
            yield from _by_class(f"on_object_own_gain_{method}", own_gain, labels, exam.classes)


def _by_class(metric: str, gain: Tensor, labels: Tensor, classes: list[str]) -> Iterator[tuple[str, float]]:
    """The means of gain [B] and halves of their intervals, for classes that have two numbers in it."""
    for number, name in enumerate(classes):
        own = gain[(labels == number) & gain.isfinite()]
        if len(own) > 1:
            yield f"{metric}/{name}", own.mean().item()
            yield f"{metric}_half/{name}", half_interval(own)


def with_objects(masks: np.ndarray, most: int) -> np.ndarray:
    """Rows of masks [N, H, H] that show something, and something else: at most so many, evenly spaced."""
    area = np.asarray(masks).reshape(len(masks), -1).mean(1)
    rows = np.flatnonzero((area > 0) & (area < 1))
    return rows[spaced(len(rows), most)] if len(rows) else rows


def on_object(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """[B, H, W] each -> per image, the share of the map within the mask, and 1.0 where its highest point is."""
    flat, inside = maps.flatten(1), masks.flatten(1)
    share = (flat * inside).sum(1) / flat.sum(1).clamp(min=1e-20)
    return share, inside.gather(1, flat.argmax(1, keepdim=True)).squeeze(1)


def gain_over_others(maps: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """[B, H, W], [B, H, W], [B] -> [B]: a part for each image, NaN for the only one of its class.

    The parts' mean over a class is the mean share of its maps under their own masks less that under each other's masks.
    An image's part is what it brings to that difference (the first term of a U-statistic; Hoeffding, 1948): a map that
    lies well under all masks and a mask that covers much raise both sides and cancel.
    """
    parts = torch.full((len(maps),), torch.nan, device=maps.device)
    for number in labels.unique():
        own = labels == number
        flat, count = maps[own].flatten(1), int(own.sum())
        if count < 2:
            continue
        share = flat @ masks[own].flatten(1).T / flat.sum(1, keepdim=True).clamp(min=1e-20)  # [maps, masks]
        itself = share.diagonal()
        map_elsewhere, elsewhere_under_mask = ((share.sum(over) - itself) / (count - 1) for over in (1, 0))
        parts[own] = itself - map_elsewhere - elsewhere_under_mask + map_elsewhere.mean()
    return parts


def saliency_maps(encoder: Any, classify: Classifier, images: Tensor, labels: Tensor, method: str) -> Tensor:
    """[B, 3, H, W] in 0..1 and a class for each -> [B, H, W], not negative: how much its score hangs on each pixel."""
    parts = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    with evaluating(encoder):
        return torch.cat([MAPS[method](encoder, classify, *part) for part in parts])


class Scores(nn.Module):
    """Images -> scores of the classes."""

    def __init__(self, encoder: Any, classify: Classifier):
        super().__init__()
        self.encoder, self.classify = encoder, classify

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.encoder(images).float())


def _gradient(encoder, classify, images, labels):
    attribute = wanted("captum.attr", extra="report").Saliency(Scores(encoder, classify)).attribute
    return attribute(images.clone().requires_grad_(), target=labels).amax(1).detach()


def _smoothgrad(encoder, classify, images, labels, *, draws=8, noise=0.1):
    captum = wanted("captum.attr", extra="report")
    tunnel = captum.NoiseTunnel(captum.Saliency(Scores(encoder, classify)))
    with seeded(0):  # captum draws from the global generator
        maps = tunnel.attribute(
            images.clone().requires_grad_(), target=labels, nt_type="smoothgrad", nt_samples=draws, stdevs=noise
        )
    return maps.amax(1).detach()


def _integrated_gradients(encoder, classify, images, labels, *, steps=16):
    captum = wanted("captum.attr", extra="report")
    attribute = captum.IntegratedGradients(Scores(encoder, classify)).attribute
    grey = torch.full_like(images, 0.5)
    maps = attribute(images, baselines=grey, target=labels, n_steps=steps, internal_batch_size=256)
    return maps.abs().sum(1).detach()


@torch.no_grad()
def _grad_cam(encoder, classify, images, labels):
    """Features are means of maps and the scores linear in them, so the gradient by a map is its class's weight."""
    maps = encoder.maps(images).float()
    weight = (classify.weights / classify.std[:, None]).T[labels]  # [B, D]
    cam = torch.einsum("bdhw,bd->bhw", maps, weight).relu()
    return F.interpolate(cam[:, None], images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


MAPS = {
    "gradient": _gradient,
    "smoothgrad": _smoothgrad,
    "integrated_gradients": _integrated_gradients,
    "grad_cam": _grad_cam,
}
