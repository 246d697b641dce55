"""Masks: of a subset, and those beside a folder."""

import numpy as np
import pytest
import torch
from PIL import Image

from lilliput import catalog
from lilliput.data.masks import masks_of
from lilliput.errors import BadData


def test_some_rows_of_a_store_are_read_as_the_whole_is(scenes):
    rows = np.array([5, 2, 40])
    some = scenes.test.take(rows)
    assert len(some) == 3 and some.image_size == 32 and some.classes == scenes.test.classes
    assert torch.equal(some.batch(slice(0, 2)), scenes.test.batch(rows[:2]))
    assert some.labels.tolist() == scenes.test.labels[rows].tolist()
    assert np.array_equal(masks_of(some), scenes.test.masks[rows]) and np.array_equal(
        some.images, scenes.test.images[rows]
    )


def test_masks_beside_a_folder_go_to_the_images_of_their_numbers(tmp_path):
    for split in ("train", "test"):
        for number in range(20):
            folder = tmp_path / "data" / split / ("a" if number % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.full((16, 16, 3), number * 10, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:05}.png")
    grid = np.zeros((1, 4, 4), dtype=np.uint8)
    grid[0, 0, 3] = 1
    packed = np.packbits(grid.reshape(1, -1), axis=1)
    index = {"train_index": np.array([7]), "test_index": np.array([6])}
    np.savez(tmp_path / "data" / "masks.npz", **index, train_mask=packed, test_mask=packed)
    data = catalog.dataset("folder")(path=tmp_path / "data", image_size=16)
    masks = masks_of(data.test)
    (row,) = np.flatnonzero(masks.reshape(20, -1).any(1))
    assert data.test.images[row].max() == 60  # number 6
    assert masks[row, :4, 12:].all() and masks[row].sum() == 16
    np.savez(tmp_path / "data" / "masks.npz", other=packed)
    other = catalog.dataset("folder")(path=tmp_path / "data", image_size=12)
    with pytest.raises(BadData, match="holds no masks"):
        masks_of(other.test)
