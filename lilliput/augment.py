"""Batched transforms: (images [B, 3, H, W] in 0..1, rng) -> images; every image gets its own draw.

Resampling, with or without a crop, a flip or a blur, is linear in rows and in columns, so it is written as two small
matrices an image: left @ image @ right. Distributions are those of torchvision's per-image transforms.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
CACHE = 2**20  # bytes of images that a core's second cache holds beside what is computed from them
GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as Pillow and torchvision weigh it


def uniform(count: int | tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    """Independent draws in low..high, on the generator's device."""
    shape = (count,) if isinstance(count, int) else count
    return torch.empty(shape, device=rng.device).uniform_(low, high, generator=rng)


def chosen(count: int, p: float, rng: Generator) -> Tensor:
    """[count] booleans, each true with probability p."""
    return torch.rand(count, device=rng.device, generator=rng) < p


def per_image(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return values[:, None, None, None]


def in_blocks(change: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """change(*batches), on a CPU for as many images at a time as stay in a core's cache from one step to the next."""
    images = batches[0]
    if images.device.type != "cpu":
        return change(*batches)
    count = max(1, CACHE // (images[0].numel() * images.element_size()))
    return torch.cat([change(*block) for block in zip(*(batch.split(count) for batch in batches), strict=True)])


# -- geometry ---------------------------------------------------------------------------------------------------------


def crop_boxes(
    count: int, height: int, width: int, rng: Generator, *, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width, [B] each in whole pixels, of random crops of given share of area and aspect.

    The draw of torchvision's RandomResizedCrop: ten attempts an image, the first that fits, else the whole image.
    """
    attempts = (count, 10)
    share = uniform(attempts, *area, rng) * height * width
    aspect = uniform(attempts, math.log(ratio[0]), math.log(ratio[1]), rng).exp()
    w, h = (share * aspect).sqrt().round(), (share / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    found = fits.gather(1, first).squeeze(1)
    h = torch.where(found, h.gather(1, first).squeeze(1), height)
    w = torch.where(found, w.gather(1, first).squeeze(1), width)
    top = (torch.rand(count, device=rng.device, generator=rng) * (height - h + 1)).floor()
    left = (torch.rand(count, device=rng.device, generator=rng) * (width - w + 1)).floor()
    return top, left, h, w


def resize_matrix(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """[B, size, source]: rows that resample pixels start..start+length of a line of `source` to `size`, antialiased.

    Triangle filter, widened when shrinking, cut at the crop's edges: what Pillow and torchvision's antialias do.
    """
    scale = (length / size)[:, None, None]
    support = scale.clamp(min=1)
    steps = torch.arange(size, device=start.device) + 0.5
    pixels = torch.arange(source, device=start.device) + 0.5
    centre = start[:, None, None] + steps[None, :, None] * scale
    inside = (pixels > start[:, None, None]) & (pixels < (start + length)[:, None, None])
    weight = (1 - (pixels - centre).abs() / support).clamp(min=0) * inside
    return weight / weight.sum(2, keepdim=True)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[B, 3, H, W], [B, h, H], [B, w, W] -> [B, 3, h, w]: rows @ image @ columns^T, for every image and channel."""
    return in_blocks(_resampled, images, rows, columns)


def _resampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    across = torch.bmm(images.reshape(batch, channels * height, width), columns.mT)
    across = across.reshape(batch, channels, height, -1)
    return torch.matmul(rows[:, None], across)


def resized_crop(
    images: Tensor,
    rng: Generator,
    *,
    size: int | None = None,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """A random crop of every image, resized to size x size (None: the images' own height), mirrored with probability
    `flip`."""
    batch, _, height, width = images.shape
    size = size or height
    top, left, h, w = crop_boxes(batch, height, width, rng, area=area, ratio=ratio)
    rows = resize_matrix(top, h, height, size)
    columns = resize_matrix(left, w, width, size)
    mirrored = chosen(batch, flip, rng)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    return resample(images, rows, columns)


def padded_crop(images: Tensor, rng: Generator, *, padding: float = 1 / 8, flip: float = 0.5) -> Tensor:
    """Shift every image by up to `padding` of its sides, edges reflected, and mirror it with probability `flip`.

    No interpolation: pixels move whole, so the transform leaves no trace that a pretext task could use.
    """
    batch, channels, height, width = images.shape
    mirrored = chosen(batch, flip, rng)
    lines = []
    for length in (height, width):
        reach = round(length * padding)
        shift = torch.randint(-reach, reach + 1, (batch, 1), device=rng.device, generator=rng)
        place = torch.arange(length, device=images.device) + shift
        lines.append(_reflect(place, length))
    rows, columns = lines
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    moved = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def _reflect(place: Tensor, length: int) -> Tensor:
    """Fold places outside 0..length-1 back, the edge pixel not repeated."""
    place = place.abs()
    return torch.where(place >= length, 2 * (length - 1) - place, place)


# -- colour -----------------------------------------------------------------------------------------------------------


def luma(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W] brightness."""
    red, green, blue = images.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue).unsqueeze(1)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of every image by its own share of the circle (in HSV, value and saturation kept)."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # 1.0 where a channel is the brightest, as a number: sums of products are far quicker than torch.where on a CPU
    is_red = value.clone().eq_(red)
    is_green = value.clone().eq_(green).mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    hue = (green - blue) * is_red + (blue - red) * is_green + (red - green) * is_blue
    hue = hue / chroma.clamp(min=1e-8) + 2 * is_green + 4 * is_blue + 6 * turns[:, None, None]
    # channel n of HSV -> RGB: value - chroma * max(0, min(k, 4 - k, 1)) with k = (n + hue) mod 6; here k - 2, in -3..3
    k = hue[:, None] + torch.tensor([3.0, 1.0, -1.0], device=images.device)[:, None, None]
    k -= (k / 6).round_().mul_(6)
    share = k.abs_().neg_().add_(2).clamp_(0, 1)
    return value[:, None] - share.mul_(chroma[:, None])


def fade(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Move every image away from (factor > 1) or towards black, its mean grey or its own greys: [B] each.

    All three are base + factor * (image - base), cut to 0..1, so a batch of mixed operations is one step.
    """
    grey = luma(images)
    mean = grey.mean((2, 3), keepdim=True)
    base = grey * per_image(operation == SATURATION) + mean * per_image(operation == CONTRAST)
    return torch.lerp(base, images, per_image(factor)).clamp_(0, 1)


def colour_jitter(
    images: Tensor,
    rng: Generator,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 0.8,
) -> Tensor:
    """With probability p, change brightness, contrast, saturation and hue, every image by its own factors and in its
    own random order. Factors are uniform in 1 +- strength (not below 0); hue in +- strength of the circle."""
    batch = len(images)
    picked = chosen(batch, p, rng)
    drawn = [uniform(batch, max(0.0, 1 - s), 1 + s, rng) for s in (brightness, contrast, saturation)]
    turns = uniform(batch, -hue, hue, rng)
    order = torch.rand((batch, 4), device=rng.device, generator=rng).argsort(1)
    # by place, not by operation; what changes nothing has the factor 1
    factors = torch.stack([*drawn, torch.ones_like(turns)], dim=1).gather(1, order)
    factors = torch.where(picked[:, None], factors, 1.0)
    turned = (order == HUE) & picked[:, None]
    return in_blocks(_jittered, images, order, factors, turned, turns)


def _jittered(images: Tensor, order: Tensor, factors: Tensor, turned: Tensor, turns: Tensor) -> Tensor:
    for place in range(4):
        images = fade(images, order[:, place], factors[:, place])
        here = turned[:, place].nonzero().squeeze(1)
        if len(here):
            images[here] = shift_hue(images[here], turns[here])
    return images


def grey(images: Tensor, rng: Generator, *, p: float = 0.2) -> Tensor:
    """With probability p, all three channels become the brightness."""
    picked = chosen(len(images), p, rng)
    return torch.where(per_image(picked), luma(images), images)


def solarise(images: Tensor, rng: Generator, *, p: float, threshold: float = 0.5) -> Tensor:
    """With probability p, invert what is at or above the threshold."""
    picked = per_image(chosen(len(images), p, rng))
    return torch.where(picked & (images >= threshold), 1 - images, images)


# -- blur -------------------------------------------------------------------------------------------------------------


def blur_matrix(sigma: Tensor, length: int, radius: int) -> Tensor:
    """[B] -> [B, length, length]: a Gaussian of 2 radius + 1 taps along a line, edges reflected."""
    taps = torch.arange(-radius, radius + 1, device=sigma.device)
    weight = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    weight = weight / weight.sum(1, keepdim=True)
    places = torch.arange(length, device=sigma.device)
    landing = F.one_hot(_reflect(places[None, :] + taps[:, None], length), length).float()  # [taps, length, length]
    return torch.einsum("bt,tij->bij", weight, landing)


def blur(images: Tensor, rng: Generator, *, p: float = 0.5, sigma: tuple[float, float] = (0.1, 2.0)) -> Tensor:
    """With probability p, a Gaussian blur of uniform sigma, its kernel a tenth of the image (made odd)."""
    picked = chosen(len(images), p, rng).nonzero().squeeze(1)
    size = images.shape[-1]
    radius = max(1, size // 10 // 2)
    widths = uniform(len(images), *sigma, rng)[picked]
    changed = images.clone()
    if len(picked):
        matrix = blur_matrix(widths, size, radius)
        changed[picked] = resample(images[picked], matrix, matrix)
    return changed
