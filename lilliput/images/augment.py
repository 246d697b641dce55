"""Batched transforms: (images [B, 3, H, W] in 0..1, rng) -> images; every image gets its own draw.

Distributions are those of torchvision's per-image transforms. What ends in _ changes its images in place and returns
them, as in torch: on a CPU a copy of a batch costs as much as a change of its colours.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from lilliput.images.draws import chosen, integers, normal, shares, uniform

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
CACHE = 2**21  # bytes of images that a core's second cache holds beside what is computed from them
SMALLEST_AREA = 0.05  # of a small view, as a share of its image
GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as Pillow and torchvision weigh it


def per_image(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return values[:, None, None, None]


def at_a_time(images: Tensor) -> int:
    """How many images to change at once: on a CPU as many as stay in a core's cache from one step to the next."""
    if images.device.type != "cpu":
        return max(1, len(images))
    return max(1, CACHE // (images.shape[1:].numel() * images.element_size()))


def takes_apart(images: Tensor) -> bool:
    """Whether a change of some images is worked out for these alone. An accelerator changes all and keeps what is
    wanted: to count the picked would make the program wait for it."""
    return images.device.type == "cpu"


def to_some_(picked: Tensor, change: Callable[..., Tensor], images: Tensor, *values: Tensor) -> Tensor:
    """change(images, *values) for the picked images [B] alone; the others stay."""
    if not takes_apart(images):
        return images.copy_(torch.where(per_image(picked), change(images, *values), images))
    for places in picked.nonzero().squeeze(1).split(at_a_time(images)):
        if len(places):
            images.index_copy_(0, places, change(*(batch.index_select(0, places) for batch in (images, *values))))
    return images


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
    any_fits = fits.gather(1, first).squeeze(1)
    h = torch.where(any_fits, h.gather(1, first).squeeze(1), height)
    w = torch.where(any_fits, w.gather(1, first).squeeze(1), width)
    top = (shares(count, rng) * (height - h + 1)).floor()
    left = (shares(count, rng) * (width - w + 1)).floor()
    return top, left, h, w


def taps(start: Tensor, length: Tensor, source: int, size: int) -> tuple[Tensor, Tensor]:
    """Pixels and their weights, [B, size, T] each, that resample start..start+length of a line of `source` to `size`.

    Triangle filter, widened when shrinking, cut at the crop's edges: what Pillow and torchvision's antialias do.
    """
    scale, start, length = (length / size)[:, None, None], start[:, None, None], length[:, None, None]
    support = scale.clamp(min=1)
    count = 2 * math.ceil(max(1.0, source / size))  # no crop is longer than its line, so no filter is wider
    centre = start + (torch.arange(size, device=start.device) + 0.5)[:, None] * scale
    pixels = (centre - support - 0.5).ceil() + torch.arange(count, device=start.device)
    inside = (pixels >= start) & (pixels < start + length)
    weight = (1 - (pixels + 0.5 - centre).abs() / support).clamp(min=0) * inside
    return pixels.clamp(0, source - 1).long(), weight / weight.sum(2, keepdim=True)


def resample(images: Tensor, rows: Tensor, row_weights: Tensor, columns: Tensor, column_weights: Tensor) -> Tensor:
    """[B, 3, H, W] and the taps of both sides -> [B, 3, h, w].

    Whole rows are added, which is as quick as memory; columns would be gathered one by one, so they are a product.
    """
    batch, channels, height, width = images.shape
    first = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * height
    flat, high = images.reshape(-1, width), rows.shape[1]
    down = images.new_zeros(batch, channels, high, width)
    for row, weight in zip(rows.unbind(2), row_weights.unbind(2), strict=True):
        lines = flat.index_select(0, (first + row[:, None]).flatten()).view_as(down)
        down.addcmul_(lines, weight[:, None, :, None])
    across = images.new_zeros(batch, width, columns.shape[1])  # [B, W, w]
    for column, weight in zip(columns.unbind(2), column_weights.unbind(2), strict=True):
        across.scatter_add_(1, column[:, None], weight[:, None])
    return torch.bmm(down.view(batch, -1, width), across).view(batch, channels, high, -1)


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
    mirrored = chosen(batch, flip, rng)[:, None, None]
    columns = [torch.where(mirrored, taken.flip(1), taken) for taken in taps(left, w, width, size)]
    blocks = (batch.split(at_a_time(images)) for batch in (images, *taps(top, h, height, size), *columns))
    return torch.cat([resample(*block) for block in zip(*blocks, strict=True)])


def corners(count: int, step: float, device: torch.device) -> Tensor:
    """[2, count^2]: rows and columns where the cells of a square grid begin, `step` pixels apart, row after row."""
    number = torch.arange(count**2, device=device)
    return torch.stack([number // count, number % count]) * step


def tiles(images: Tensor, top: Tensor, left: Tensor, side: int, size: int) -> Tensor:
    """[B, 3, H, W] -> squares of `side` pixels from row `top` and column `left`, [B, N] each, resized: [B, N, 3, size,
    size]."""
    count = top.shape[1]
    length = torch.full((len(images) * count,), float(side), device=images.device)
    rows = taps(top.flatten().float(), length, images.shape[2], size)
    columns = taps(left.flatten().float(), length, images.shape[3], size)
    cut = resample(images.repeat_interleave(count, 0), *rows, *columns)
    return cut.view(len(images), count, *cut.shape[1:])


def drop_colours_(images: Tensor, rng: Generator, *, p: float) -> Tensor:
    """With probability p, two of the three channels of an image become noise, a hundredth as strong as the third.

    Doersch, Gupta, Efros, ICCV 2015, section 3.2: else a lens's colour fringes tell where in a photograph one is.
    """
    picked = chosen(len(images), p, rng)
    kept = integers(0, 3, len(images), rng)
    noise = normal(images.shape, rng)

    def dropped(some: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
        stay = (kept[:, None] == torch.arange(3, device=kept.device))[:, :, None, None]
        own = some.gather(1, kept[:, None, None, None].expand(-1, 1, *some.shape[2:]))
        strength = own.std((1, 2, 3), keepdim=True) / 100
        return torch.where(stay, some, own.mean((2, 3), keepdim=True) + strength * noise)

    return to_some_(picked, dropped, images, kept, noise)


def small_views(
    count: int, view: Callable[..., Tensor], images: Tensor, rng: Generator, area: float
) -> tuple[Tensor, ...]:
    """So many views of half the side, of up to `area` of their images, as one batch [count B, 3, H/2, H/2]; else none.

    Caron et al. (SwAV), NeurIPS 2020, section 3.2. `view` takes the images, `rng` and what `resized_crop` takes.
    """
    crop = {"area": (SMALLEST_AREA, area), "size": images.shape[2] // 2}
    return (torch.cat([view(images, rng, **crop) for _ in range(count)]),) if count else ()


def padded_crop(images: Tensor, rng: Generator, *, padding: float = 1 / 8, flip: float = 0.5) -> Tensor:
    """Shift every image by up to `padding` of its sides, edges reflected, and mirror it with probability `flip`.

    No interpolation: pixels move whole, so the transform leaves no trace that a pretext task could use.
    """
    batch, channels, height, width = images.shape
    mirrored = chosen(batch, flip, rng)
    lines = []
    for length in (height, width):
        reach = round(length * padding)
        shift = integers(-reach, reach + 1, (batch, 1), rng)
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


def luma(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, H, W] brightness."""
    red, green, blue = images.unbind(1)
    return (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of every image by its own share of the circle (in HSV, value and saturation kept)."""
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # 1.0 where a channel is the highest, as a number: sums of products are far quicker than torch.where on a CPU
    is_red = high.clone().eq_(red)
    is_green = high.clone().eq_(green).mul_(1 - is_red)
    is_blue = (is_red + is_green).neg_().add_(1)
    hue = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    hue.div_(chroma.clamp(min=1e-8)).add_(is_green, alpha=2).add_(is_blue, alpha=4).add_(6 * turns[:, None, None])
    hue.sub_((hue / 6).floor_().mul_(6))  # 0..6
    # red is low + chroma (|hue - 3| - 1), green low + chroma (2 - |hue - 2|), blue low + chroma (2 - |hue - 4|), each
    # bracket cut to 0..1: here |.| is cut to 1..2 instead, and the rest of the bracket is in the base
    turned = torch.empty_like(images)
    down, up = low - chroma, torch.add(low, chroma, alpha=2)
    for channel, base, centre, sign in zip(turned.unbind(1), (down, up, up), (3, 2, 4), (1, -1, -1), strict=True):
        torch.addcmul(base, chroma, (hue - centre).abs_().clamp_(1, 2), value=sign, out=channel)
    return turned


def fade(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Move every image away from (factor > 1) or towards black, its mean grey or its own greys: [B] each.

    All three are factor * image + (1 - factor) * base, cut to 0..1, so a batch of mixed operations is one step.
    """
    grey = luma(images)
    mean = grey.flatten(1).mean(1) * (operation == CONTRAST)
    rest = 1 - factor
    base = grey.mul_((rest * (operation == SATURATION))[:, None, None]).add_((rest * mean)[:, None, None])
    return (images * per_image(factor)).add_(base[:, None]).clamp_(0, 1)


def colour_jitter_(
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
    order = shares((batch, 4), rng).argsort(1)
    fades = order.gather(1, (order == HUE).int().argsort(stable=True, dim=1)[:, :3])
    factors = torch.stack(drawn, dim=1).gather(1, fades)
    places = (order == HUE).int().argmax(1)
    if not takes_apart(images):
        return _jittered_together_(picked, images, fades, factors, turns, places)
    for place in range(4):
        to_some_(picked & (places == place), partial(_jittered, hue_place=place), images, fades, factors, turns)
    return images


def _jittered(images: Tensor, fades: Tensor, factors: Tensor, turns: Tensor, *, hue_place: int) -> Tensor:
    """Three fades an image, [B, 3] each, and a turn of the hue: before the fade of that number, or in the end."""
    for place in range(4):
        if place == hue_place:
            images = shift_hue(images, turns)
        if place < 3:
            images = fade(images, fades[:, place], factors[:, place])
    return images


def _jittered_together_(
    picked: Tensor, images: Tensor, fades: Tensor, factors: Tensor, turns: Tensor, places: Tensor
) -> Tensor:
    """As `_jittered` of the picked alone, whatever their hue's places: those whose turn it is not fade by 1."""
    still = factors.new_ones(())
    for late in (False, True):
        for place in range(3):
            now = picked & ((place >= places) == late)
            images.copy_(fade(images, fades[:, place], torch.where(now, factors[:, place], still)))
        if not late:
            to_some_(picked, shift_hue, images, turns)
    return images


def grey_(images: Tensor, rng: Generator, *, p: float = 0.2) -> Tensor:
    """With probability p, all three channels become the brightness."""
    return to_some_(chosen(len(images), p, rng), lambda some: luma(some)[:, None].expand_as(some), images)


def solarise_(images: Tensor, rng: Generator, *, p: float, threshold: float = 0.5) -> Tensor:
    """With probability p, invert what is at or above the threshold."""
    picked = chosen(len(images), p, rng)
    return to_some_(picked, lambda some: torch.where(some >= threshold, 1 - some, some), images)


def smoothing(sigma: Tensor, length: int, *, radius: int) -> Tensor:
    """[B] -> [B, length, length]: what blurs a line is a matrix, row by row the weights of a pixel's neighbours."""
    reach = torch.arange(-radius, radius + 1, device=sigma.device)
    weight = torch.exp(-0.5 * (reach / sigma[:, None]) ** 2)
    weight = weight / weight.sum(1, keepdim=True)
    places = _reflect(torch.arange(length, device=sigma.device)[:, None] + reach, length)
    matrix = sigma.new_zeros(len(sigma), length, length)
    return matrix.scatter_add_(2, places.expand(len(sigma), -1, -1), weight[:, None].expand(-1, length, -1))


def gaussian(images: Tensor, sigma: Tensor, *, radius: int) -> Tensor:
    """Every image blurred by its own sigma [B]: 2 radius + 1 taps along each side, edges reflected."""
    height, width = images.shape[2:]
    across, down = (smoothing(sigma, length, radius=radius) for length in (width, height))
    wide = torch.bmm(images.flatten(1, 2), across.transpose(1, 2)).view_as(images)
    return torch.matmul(down[:, None], wide)


def blur_(images: Tensor, rng: Generator, *, p: float = 0.5, sigma: tuple[float, float] = (0.1, 2.0)) -> Tensor:
    """With probability p, a Gaussian blur of uniform sigma, its kernel a tenth of the image (made odd)."""
    picked = chosen(len(images), p, rng)
    radius = max(1, images.shape[-1] // 10 // 2)
    return to_some_(picked, partial(gaussian, radius=radius), images, uniform(len(images), *sigma, rng))
