"""Lab against scikit-image; the bins against the colour cube itself."""

import numpy as np
import torch
from scipy.spatial import ConvexHull
from skimage.color import rgb2lab

from lilliput.images import colour
from tests.conftest import rng


def test_lab_is_that_of_scikit_image():
    rgb = np.random.default_rng(0).random((2, 3, 17, 19), dtype=np.float32)
    rgb[0, :, 0, :3] = [[0, 1, 0.02]] * 3  # black, white, and the linear part near black
    expected = np.moveaxis(rgb2lab(np.moveaxis(rgb, 1, -1)), -1, 1)
    assert np.abs(colour.rgb_to_lab(torch.from_numpy(rgb)).numpy() - expected).max() < 2e-3


def test_the_313_bins_are_the_corners_of_the_cells_that_the_hull_of_the_gamut_meets():
    side = np.linspace(0, 1, 256)
    u, v = np.meshgrid(side, side)
    faces = [np.stack(np.roll([np.full_like(u, w), u, v], axis, 0), -1) for axis in range(3) for w in (0.0, 1.0)]
    ab = rgb2lab(np.concatenate(faces)).reshape(-1, 3)[:, 1:]  # the gamut's rim lies on the cube's faces
    planes = ConvexHull(ab).equations
    fine = np.arange(-120, 120.01, 0.5)
    grid = np.stack(np.meshgrid(fine, fine, indexing="ij"), -1).reshape(-1, 2)
    inside = grid[(grid @ planes[:, :2].T + planes[:, 2] <= 0).all(1)]
    cells = np.unique(np.floor(np.concatenate([inside, ab]) / 10), axis=0)
    corners = np.unique((cells[:, None] + [[0, 0], [0, 1], [1, 0], [1, 1]]).reshape(-1, 2), axis=0) * 10
    points = colour.gamut_points().numpy()
    assert len(points) == 313
    assert np.array_equal(points, corners)


def test_every_colour_goes_to_its_nearest_bin():
    ab = (torch.rand(1, 2, 40, 40, generator=rng(0)) * 200 - 100).round()
    bins = colour.colour_bins(ab)
    distance = torch.cdist(ab[0].flatten(1).T, colour.gamut_points())
    assert torch.equal(distance.gather(1, bins.flatten()[:, None]).squeeze(1), distance.min(1).values)


def test_grey_is_the_bin_at_the_origin():
    lab = colour.rgb_to_lab(torch.full((1, 3, 2, 2), 0.5))
    assert colour.gamut_points()[colour.colour_bins(lab[:, 1:])].abs().max() == 0


def test_lightness_bins_are_two_wide_and_white_is_in_the_last():
    lightness = torch.tensor([0.0, 1.99, 2.0, 50.0, 99.0, 100.0])[None, None, None]
    assert colour.lightness_bins(lightness).flatten().tolist() == [0, 0, 1, 25, 49, 49]


def test_lab_is_full_precision_under_mixed_precision():
    image = torch.rand(1, 3, 8, 8, generator=rng(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(colour.rgb_to_lab(image), colour.rgb_to_lab(image).float())
        mixed = colour.rgb_to_lab(image)
    assert torch.equal(mixed, colour.rgb_to_lab(image))
