"""RGB to Lab, and the bins of Lab that Split-Brain predicts.

sRGB (IEC 61966-2-1) under D65 to CIE 1976 L*a*b*; bins as in Zhang, Isola, Efros, "Colorful Image Colorization",
ECCV 2016, section 2.2: ab on a grid of spacing 10, the 313 points whose cells meet the gamut of sRGB.
"""

from functools import cache

import torch
from torch import Tensor

RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
D65 = (0.95047, 1.0, 1.08883)

SPACING = 10
# For each a, the first and the last b: the corners of all cells of the grid that the convex hull of the sRGB gamut
# meets. tests/images/test_colour.py derives the same 313 points from the colour cube itself.
GAMUT = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100), -40: (-40, 100), -30: (-50, 100),
    -20: (-50, 100), -10: (-60, 100), 0: (-70, 100), 10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90),
    50: (-100, 80), 60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip

LIGHTNESS_BINS = 50
LIGHTNESS_WIDTH = 2.0


def rgb_to_lab(images: Tensor) -> Tensor:
    """[B, 3, H, W] sRGB in 0..1 -> Lab: L in 0..100, a and b roughly -110..110."""
    linear = torch.where(images > 0.04045, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4, images / 12.92)
    red, green, blue = linear.unbind(1)  # sums, not a matrix product: mixed precision would round that to 16 bits
    rows = [(r * red + g * green + b * blue) / white for (r, g, b), white in zip(RGB_TO_XYZ, D65, strict=True)]
    xyz = torch.stack(rows, dim=1)  # in units of the white point
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


@cache
def gamut_points(device: torch.device | None = None) -> Tensor:
    """[313, 2]: the ab bins' centres, ordered by a, then b; brought to a device once."""
    return torch.tensor(
        [(a, b) for a, (first, last) in GAMUT.items() for b in range(first, last + 1, SPACING)],
        dtype=torch.float32,
        device=device,
    )


@cache
def _nearest_bin_table(device: torch.device) -> Tensor:
    """[301, 301]: the bin nearest to every whole (a, b) in -150..150; ab are rounded to whole steps before."""
    steps = torch.arange(-150, 151, dtype=torch.float32)
    grid = torch.cartesian_prod(steps, steps)
    return torch.cdist(grid, gamut_points()).argmin(1).reshape(301, 301).to(device)


def colour_bins(ab: Tensor) -> Tensor:
    """[B, 2, H, W] ab -> [B, H, W]: which of the 313 bins is nearest, to the rounding of a and b to whole steps."""
    a, b = (ab.round().long().clamp(-150, 150) + 150).unbind(1)
    return _nearest_bin_table(ab.device)[a, b]


def lightness_bins(lightness: Tensor) -> Tensor:
    """[B, 1, H, W] L in 0..100 -> [B, H, W]: which of the 50 bins of width 2."""
    return (lightness.squeeze(1) / LIGHTNESS_WIDTH).long().clamp(0, LIGHTNESS_BINS - 1)
