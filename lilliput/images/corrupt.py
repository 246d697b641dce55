"""Corruptions: what spoils a photograph, in eight kinds and three severities; images [B, 3, H, W] in 0..1 stay that.

The kinds are those of Hendrycks, Dietterich, ICLR 2019, https://arxiv.org/abs/1903.12261, section 4, by formulas of our
own. Lengths are shares of the image's shorter side, so that one severity means the same at any size. What is random is
drawn for each image from a generator of its own, on the CPU: an image is spoilt alike in any batch, on any device.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from lilliput.images.augment import BRIGHTNESS, CONTRAST, fade

HAZE_GRIDS = (2, 4, 8)  # values a side of the fields that haze is a sum of, each half as strong as the one before


class Kind(NamedTuple):
    """A kind of corruption."""

    severities: tuple[float, float, float]  # what `spoil` is given, from mild to severe
    spoil: Callable[[Tensor, float, Sequence[Generator]], Tensor]


def corrupt(images: Tensor, kind: str, severity: int, draws: Sequence[Generator]) -> Tensor:
    """`kind` is a name of KINDS, `severity` 1, 2 or 3, `draws` a generator for each image."""
    severities, spoil = KINDS[kind]
    return spoil(images, severities[severity - 1], draws).clamp(0, 1)


def gaussian_noise(images: Tensor, deviation: float, draws: Sequence[Generator]) -> Tensor:
    """The same noise in light and shade."""
    return images + deviation * _normal(images, draws)


def shot_noise(images: Tensor, photons: float, draws: Sequence[Generator]) -> Tensor:
    """The noise of light that comes in grains, so many in white: Poisson's, by the normal one of its variance."""
    return images + (images / photons).sqrt() * _normal(images, draws)


def defocus_blur(images: Tensor, radius: float, draws: Sequence[Generator]) -> Tensor:
    """Every point a disc of that radius, a share of the side; its edge fades over a pixel."""
    radius *= min(images.shape[2:])
    down, across = _around(radius, images)
    disc = (radius + 1 - (down**2 + across**2).sqrt()).clamp(0, 1)
    return _convolved(images, disc[None])


def motion_blur(images: Tensor, length: float, draws: Sequence[Generator]) -> Tensor:
    """Every point a line of that length, a share of the side, in a direction of the image's own; as wide as a pixel."""
    half = length * min(images.shape[2:]) / 2
    down, across = _around(half, images)
    angles = torch.tensor([draw.uniform(0, math.pi) for draw in draws], device=images.device).float()[:, None, None]
    along = (across * angles.cos() + down * angles.sin()).abs()
    beside = across * angles.sin() - down * angles.cos()
    away = ((along - half).clamp(min=0) ** 2 + beside**2).sqrt()
    return _convolved(images, (1 - away).clamp(min=0))


def brightness(images: Tensor, factor: float, draws: Sequence[Generator]) -> Tensor:
    """As much brighter, what becomes more than white being lost."""
    return _faded(images, BRIGHTNESS, factor)


def contrast(images: Tensor, factor: float, draws: Sequence[Generator]) -> Tensor:
    """So much of the contrast is left, around the image's mean grey."""
    return _faded(images, CONTRAST, factor)


def pixelate(images: Tensor, share: float, draws: Sequence[Generator]) -> Tensor:
    """Squares of one colour, so many along a side as that share of its pixels."""
    small = [max(1, round(share * length)) for length in images.shape[2:]]
    return F.interpolate(F.interpolate(images, small, mode="area"), images.shape[2:], mode="nearest-exact")


def haze(images: Tensor, density: float, draws: Sequence[Generator]) -> Tensor:
    """White clouds over it: a smooth field in 0..1 of the image's own, and that share of white at its thickest."""
    field = images.new_zeros(len(images), 1, *images.shape[2:])
    for number, side in enumerate(HAZE_GRIDS):
        drawn = np.stack([draw.random((1, side, side), dtype=np.float32) for draw in draws])
        values = torch.as_tensor(drawn, device=images.device)
        field += F.interpolate(values, images.shape[2:], mode="bicubic", align_corners=True) / 2**number
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    thickness = density * (1 + (field - low) / (high - low).clamp(min=1e-6)) / 2  # nowhere less than half as thick
    return images + thickness * (1 - images)


def _normal(images: Tensor, draws: Sequence[Generator]) -> Tensor:
    """Independent normal numbers, as many as the images have."""
    drawn = np.stack([draw.standard_normal(images.shape[1:], dtype=np.float32) for draw in draws])
    return torch.as_tensor(drawn, device=images.device)


def _faded(images: Tensor, operation: int, factor: float) -> Tensor:
    count = len(images)
    which = torch.full((count,), operation, device=images.device)
    return fade(images, which, torch.full((count,), factor, device=images.device))


def _around(reach: float, images: Tensor) -> tuple[Tensor, Tensor]:
    """How far below and to the right of the middle the weights of a kernel lie, [K, 1] and [1, K] pixels."""
    reach = min(math.ceil(reach), min(images.shape[2:]) - 1)  # a reflection is no longer than the image
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    return places[:, None], places[None]


def _convolved(images: Tensor, kernels: Tensor) -> Tensor:
    """Every image by its own kernel or all by one, [B or 1, K, K], symmetric about its middle; edges reflected.

    By Fourier transforms: single precision on CUDA too, and as quick for wide kernels as for narrow ones.
    """
    margin = kernels.shape[-1] // 2
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    wide = F.pad(images, (margin,) * 4, mode="reflect")
    size = wide.shape[2:]
    spectrum = torch.fft.rfft2(wide) * torch.fft.rfft2(kernels, s=size)[:, None]
    whole = torch.fft.irfft2(spectrum, s=size)  # shifted by the margin, down and right, and wrapped around
    return whole[:, :, 2 * margin :, 2 * margin :]


KINDS = {
    "gaussian_noise": Kind((0.05, 0.1, 0.2), gaussian_noise),
    "shot_noise": Kind((200, 50, 15), shot_noise),
    "defocus_blur": Kind((0.015, 0.03, 0.05), defocus_blur),
    "motion_blur": Kind((0.06, 0.12, 0.2), motion_blur),
    "brightness": Kind((1.3, 1.7, 2.2), brightness),
    "contrast": Kind((0.6, 0.35, 0.2), contrast),
    "pixelate": Kind((0.6, 0.4, 0.25), pixelate),
    "haze": Kind((0.3, 0.5, 0.7), haze),
}
