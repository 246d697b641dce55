"""Context prediction: where its tiles lie, and what they give away."""

import torch

from lilliput.images import augment
from lilliput.techniques import context_prediction
from tests.conftest import rng


def test_the_second_tile_lies_where_it_is_said_to_and_both_are_within_the_image():
    top, left, place, side = context_prediction.places(4000, 96, rng())
    assert side == 23 and min(top.min(), left.min()) >= 0
    assert top.max() + side <= 96 and left.max() + side <= 96
    away = torch.stack([top[:, 1] - top[:, 0], left[:, 1] - left[:, 0]], dim=1)
    step, shake = side + round(side / 2), 1
    expected = torch.tensor(context_prediction.PLACES)[place] * step
    assert (away - expected).abs().max() == 2 * shake
    assert place.bincount(minlength=8).min() > 400
    for number in range(8):  # the first tile's place does not tell where the second is
        rows = top[place == number, 0]
        if context_prediction.PLACES[number][0] == 0:
            assert rows.max() - rows.min() > 60


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
