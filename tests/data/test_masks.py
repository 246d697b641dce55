"""Masks: of a subset, and those beside a folder."""

import numpy as np
import pytest
import torch
from PIL import Image

from lilliput import catalog
from lilliput.data.masks import has_masks, masks_of
from lilliput.data.store import LARGEST_SIZE, Subset
from lilliput.errors import BadData
from lilliput.probes import MaskedExam


def test_some_rows_of_a_store_are_read_as_the_whole_is(scenes):
    rows = np.array([5, 2, 40])
    some = scenes.test.take(rows)
    assert len(some) == 3 and some.image_size == 32 and some.classes == scenes.test.classes
    assert torch.equal(some.batch(slice(0, 2)), scenes.test.batch(rows[:2]))
    assert some.labels.tolist() == scenes.test.labels[rows].tolist()
    assert np.array_equal(masks_of(some), scenes.test.masks[rows]) and np.array_equal(
        some.images, scenes.test.images[rows]
    )


@pytest.fixture
def root(tmp_path):
    """train/ and test/ with twenty images each, whose grey is ten times their number."""
    for split in ("train", "test"):
        for number in range(20):
            folder = tmp_path / "data" / split / ("a" if number % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.full((16, 16, 3), number * 10, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:05}.png")
    return tmp_path / "data"


def save_masks(root, *, train, test):
    """A mask each, whose fourth of four pixels in the first row is on, for an image of `train` and one of `test`."""
    grid = np.zeros((1, 4, 4), dtype=np.uint8)
    grid[0, 0, 3] = 1
    packed = np.packbits(grid.reshape(1, -1), axis=1)
    index = {"train_index": np.array([train]), "test_index": np.array([test])}
    np.savez(root / "masks.npz", **index, train_mask=packed, test_mask=packed)


def only_masked(images):
    """The one row that has a mask, which is as `save_masks` drew it."""
    masks = masks_of(images)
    (row,) = np.flatnonzero(masks.reshape(len(images), -1).any(1))
    assert masks[row, :4, 12:].all() and masks[row].sum() == 16
    return row


def test_masks_beside_a_folder_go_to_the_images_of_their_numbers(root):
    save_masks(root, train=7, test=6)
    data = catalog.dataset("folder")(path=root, image_size=16)
    assert data.test.images[only_masked(data.test)].max() == 60
    np.savez(root / "masks.npz", other=np.zeros((1, 2), dtype=np.uint8))
    other = catalog.dataset("folder")(path=root, image_size=12)
    with pytest.raises(BadData, match="holds no masks"):
        masks_of(other.test)


def test_an_image_that_cannot_be_read_takes_its_own_mask_alone(root):
    save_masks(root, train=7, test=6)
    (root / "test" / "b" / "00002.png").write_bytes(b"damaged")
    data = catalog.dataset("folder")(path=root, image_size=16)
    assert len(data.test) == 19 and data.test.images[only_masked(data.test)].max() == 60
    assert MaskedExam.lacking(data.train, data.test) is None


def test_a_limited_pool_has_the_masks_of_its_images(root):
    save_masks(root, train=0, test=6)
    pool = catalog.dataset("folder")(path=root, image_size=16, limit=2).pool
    assert [image.max() for image in pool.images] == [10, 0]  # a/00001 and b/00000
    assert only_masked(pool) == 1


def test_a_folder_that_has_changed_since_has_no_known_masks(root):
    save_masks(root, train=7, test=6)
    data = catalog.dataset("folder")(path=root, image_size=16)
    (root / "test" / "a" / "00001.png").unlink()
    assert masks_of(data.test) is None and not has_masks(data.test)
    assert "masks" in MaskedExam.lacking(data.train, data.test)


def test_squares_beyond_the_largest_images_are_refused(root):
    for side, refused in ((LARGEST_SIZE, False), (LARGEST_SIZE + 8, True)):
        packed = np.full((1, side * side // 8), 255, dtype=np.uint8)
        np.savez(root / "masks.npz", test_index=np.array([6]), test_mask=packed)
        data = catalog.dataset("folder")(path=root, image_size=16)
        if refused:
            with pytest.raises(BadData, match=f"squares of {side} pixels, more than {LARGEST_SIZE}"):
                masks_of(data.test)
        else:
            assert masks_of(data.test).sum() == 16 * 16


def test_masks_are_unpacked_for_their_own_image_alone(root, monkeypatch):
    """All of an archive, unpacked at once, once took eight times its size."""
    unpacked, unpackbits = [], np.unpackbits

    def counted(packed, *args, **options):
        unpacked.append(packed.size)
        return unpackbits(packed, *args, **options)

    monkeypatch.setattr(np, "unpackbits", counted)
    np.savez(root / "masks.npz", test_index=np.arange(6, 1006), test_mask=np.zeros((1000, 2), dtype=np.uint8))
    assert masks_of(catalog.dataset("folder")(path=root, image_size=16).test).shape == (20, 16, 16)
    assert unpacked == [2] * 14


def test_whether_there_are_masks_is_asked_of_the_store_and_copies_none(scenes, root, monkeypatch):
    some = scenes.test.take(range(9))
    plain = catalog.dataset("folder")(path=root, image_size=16).test
    assert not has_masks(plain) and not has_masks(plain.take([0]))
    monkeypatch.setattr(Subset, "masks", property(lambda self: pytest.fail("masks are copied")))
    del some.rows  # copying any would fail
    assert has_masks(scenes.test) and has_masks(some)
