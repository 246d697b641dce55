"""Jigsaw: its tiles, its orders, and what is told of them."""

import itertools

import numpy as np
import pytest
import torch

from lilliput.errors import BadSetting
from lilliput.techniques import jigsaw
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_orders_are_chosen_as_the_papers_algorithm_does():
    every = list(itertools.permutations(range(jigsaw.GRID**2)))[::997]

    def differ(a, b):
        return sum(x != y for x, y in zip(a, b, strict=True))

    orders = jigsaw.far_apart(6)
    assert orders[0].tolist() == list(range(9)) and len({tuple(order) for order in orders}) == 6
    for number in range(1, 6):
        before = orders[:number]
        ours = sum(differ(orders[number], order) for order in before)
        assert all(ours >= sum(differ(other, order) for order in before) for other in every)


def test_every_order_of_the_first_hundred_differs_much():
    orders = jigsaw.far_apart(100)
    distances = (orders[:, None] != orders[None]).sum(2)[np.triu_indices(100, 1)]
    assert distances.mean() > 8.05  # 8 is what orders drawn at random have


def test_tiles_lie_within_their_cells_and_everywhere_there():
    top, left, side = jigsaw.cells(500, 60, rng())
    assert side == 17  # 64 of 75 of a cell's 20 pixels
    for number in range(9):
        rows, columns = top[:, number], left[:, number]
        assert rows.min() == 20 * (number // 3) and rows.max() == 20 * (number // 3) + 3
        assert columns.min() == 20 * (number % 3) and columns.max() == 20 * (number % 3) + 3


def test_the_tiles_are_the_images_in_the_order_that_is_asked_for():
    """Of images that are brighter from tile to tile, before tiles are made alike."""
    technique = jigsaw.Jigsaw(resnet, orders=5, hidden=8, narrow=4, grey=0.0)
    cell = torch.arange(9).view(1, 1, 3, 3).repeat_interleave(20, 2).repeat_interleave(20, 3) / 10
    images = cell.expand(6, 3, 60, 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jigsaw, "normalised", lambda tiles: tiles)
        tiles, which = technique.views(images, rng())
    seen = (tiles.mean((2, 3, 4)) * 10).round().long()
    assert torch.equal(seen, technique.orders[which])


def test_a_tile_says_nothing_by_its_brightness_and_contrast():
    tiles = torch.rand(2, 9, 3, 8, 8, generator=rng())
    torch.testing.assert_close(jigsaw.normalised(0.3 * tiles + 0.2), jigsaw.normalised(tiles))
    flat = jigsaw.normalised(torch.full((1, 1, 3, 4, 4), 0.7))
    torch.testing.assert_close(flat, torch.full((1, 1, 3, 4, 4), 0.5), rtol=0, atol=1e-3)


def test_a_number_of_orders_out_of_range_is_refused():
    with pytest.raises(BadSetting, match="orders 1001"):
        jigsaw.Jigsaw(resnet, orders=1001)
