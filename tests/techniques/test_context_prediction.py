"""Context prediction: where its tiles lie, and what they give away."""

import torch

from lilliput.images import augment
from lilliput.techniques import context_prediction
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_the_tiles_of_a_grid_lie_a_gap_apart_and_within_the_image():
    top, left, side = context_prediction.grid(4000, 96, rng())
    assert side == 23 and min(top.min(), left.min()) >= 0
    assert top.max() + side <= 96 and left.max() + side <= 96
    step, shake = side + round(side / 2), 1
    rows, columns = top.view(-1, 3, 3), left.view(-1, 3, 3)
    for apart in (rows.diff(dim=1), columns.diff(dim=2)):
        assert (apart - step).abs().max() == 2 * shake
    for alike in (rows.diff(dim=2), columns.diff(dim=1)):
        assert alike.abs().max() == 2 * shake and alike.float().mean().abs() < 0.1  # each is moved by itself
    for size in (1, 3, 8, 17, 33, 64):
        top, left, side = context_prediction.grid(200, size, rng())
        assert min(top.min(), left.min()) >= 0 and max(top.max(), left.max()) + side <= size


def test_pairs_are_all_neighbours_of_a_grid_and_their_places():
    expected = set()
    for first in range(9):
        for second in range(9):
            away = (second // 3 - first // 3, second % 3 - first % 3)
            if away in context_prediction.PLACES:
                expected.add((first, second, context_prediction.PLACES.index(away)))
    assert set(context_prediction.PAIRS) == expected and len(context_prediction.PAIRS) == len(expected) == 40
    assert sum(first == 4 for first, _, _ in context_prediction.PAIRS) == 8  # the middle one has all its neighbours


def test_each_pair_is_told_from_its_own_two_tiles(images):
    torch.manual_seed(0)
    technique = context_prediction.ContextPrediction(resnet, hidden=16).eval()
    (tiles,) = technique.views(images, rng())
    assert tiles.shape == (len(images), 9, 3, 16, 16)
    loss = 0.0
    for image in tiles:
        for first, second, place in context_prediction.PAIRS:
            features = torch.cat([technique.encoder(image[one : one + 1]) for one in (first, second)], 1)
            loss -= technique.head(features)[0].log_softmax(0)[place]
    torch.testing.assert_close(technique(tiles), loss / (40 * len(images)), rtol=1e-3, atol=1e-4)


def test_tiles_are_cut_as_a_plain_slice_is():
    images = torch.rand(3, 3, 20, 24, generator=rng())
    top, left = torch.tensor([[0, 5], [13, 2], [7, 7]]), torch.tensor([[0, 17], [3, 4], [9, 1]])
    tiles = augment.tiles(images, top, left, 7, 7)
    for image in range(3):
        for tile in range(2):
            row, column = top[image, tile], left[image, tile]
            torch.testing.assert_close(tiles[image, tile], images[image, :, row : row + 7, column : column + 7])
    larger = augment.tiles(images, top, left, 7, 14)
    plain = torch.nn.functional.interpolate(images[:1, :, :7, :7], (14, 14), mode="bilinear")
    torch.testing.assert_close(larger[0, 0], plain[0], rtol=0, atol=1e-5)


def test_of_dropped_colours_one_channel_is_left_and_the_others_are_nearly_flat():
    images = torch.rand(200, 3, 16, 16, generator=rng())
    dropped = augment.drop_colours_(images.clone(), rng(1), p=1.0)
    same = (dropped == images).flatten(2).all(2)
    assert torch.equal(same.sum(1), torch.ones(200, dtype=torch.long)) and same.sum(0).min() > 40
    for image, original, stays in zip(dropped, images, same, strict=True):
        kept = original[stays][0]
        noise = image[~stays]
        torch.testing.assert_close(noise.mean((1, 2)), kept.mean().expand(2), rtol=0, atol=1e-3)
        assert 0.7 < noise.std() / (kept.std() / 100) < 1.3
    assert torch.equal(augment.drop_colours_(images.clone(), rng(1), p=0.0), images)
