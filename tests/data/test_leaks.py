"""Test images that are in the pool or the training images: found, named, left out."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from lilliput.data import leaks
from lilliput.data.leaks import Leak, find, names, summary, without
from lilliput.data.store import Data
from lilliput.data.writing import write_store
from lilliput.datasets import folder


def photos(count, seed, size=48):
    """Blots of all sizes, as photographs have them: uint8 [count, 3, size, size]."""
    rng = np.random.default_rng(seed)
    grids = [rng.integers(0, 256, (count, cells, cells, 3), dtype=np.uint8) for cells in (4, 8, 16)]
    layers = [np.stack([np.asarray(Image.fromarray(grid).resize((size, size))) for grid in some]) for some in grids]
    return np.mean(layers, axis=0).astype(np.uint8).transpose(0, 3, 1, 2).copy()


@pytest.fixture
def stored(tmp_path):
    def write(pixels, **options):
        def fill(images, masks):
            images[:] = pixels

        place = tmp_path / str(len(list(tmp_path.iterdir())))
        about = {"name": "x", "split": "x", "source": "noise", "image_size": pixels.shape[-1], "count": len(pixels)}
        return write_store(place, fill=fill, **about, **options)

    return write


def labelled(count):
    return {"labels": np.arange(count) % 2, "classes": ["a", "b"]}


@pytest.fixture
def leaky(stored):
    """12 images in each part; test images 3 and 5 are in the pool at 7 and 8, test image 5 in train at 0."""
    pool, train, test = (photos(12, seed) for seed in range(3))
    pool[7], pool[8], train[0] = test[3], test[5], test[5]
    return Data("x", stored(pool), stored(train, **labelled(12)), stored(test, **labelled(12)))


LEAKS = [Leak(3, "pool", 7, 0, True), Leak(5, "pool", 8, 0, True), Leak(5, "train", 0, 0, True)]


def by_pillow(change):
    return lambda image: np.asarray(change(Image.fromarray(image.transpose(1, 2, 0)))).transpose(2, 0, 1)


def recompressed(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


copies = {
    "recompressed": by_pillow(recompressed),
    "resized": by_pillow(lambda image: image.resize((30, 30)).resize((48, 48))),
    "cropped": by_pillow(lambda image: image.crop((1, 1, 47, 47)).resize((48, 48))),
    "grey": by_pillow(lambda image: image.convert("L").convert("RGB")),
    "brightened": lambda image: (image * 0.9 + 25).astype(np.uint8),
    "mirrored": lambda image: image[:, :, ::-1],
    "of another size": by_pillow(lambda image: image.resize((40, 40))),
}


def test_a_copied_test_image_is_found(leaky):
    assert find(leaky) == find(leaky, near=None) == LEAKS


@pytest.mark.parametrize("change", copies.values(), ids=copies.keys())
def test_a_changed_copy_is_found_and_not_called_the_same(stored, change):
    test = photos(12, seed=2)
    near = [change(image) for image in test[[4, 9]]]
    others = photos(12, seed=0, size=near[0].shape[-1])
    others[[1, 6]] = near
    data = Data("x", stored(others), None, stored(test))
    assert [(leak.test_row, leak.row, leak.exact) for leak in find(data)] == [(4, 1, False), (9, 6, False)]
    assert find(data, near=None) == []


def test_different_images_are_not_called_leaks(stored, scenes):
    assert find(Data("x", stored(photos(300, 0)), None, stored(photos(300, 1)))) == []
    assert find(scenes) == []


def test_plain_images_are_alike_only_where_their_pixels_are(stored):
    """Without a pattern every hash is the same, and would make all skies leaks of each other."""
    plain = np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 3 * 48 * 48).reshape(24, 3, 48, 48)
    noise = np.random.default_rng(0).integers(0, 2, plain.shape, dtype=np.uint8)
    data = Data("x", stored(plain), None, stored(np.concatenate([plain + noise, plain[:1]])))
    assert find(data) == [Leak(24, "pool", 0, 0, True)]


def test_two_test_images_may_be_in_one_image_of_the_pool_and_one_in_two(stored):
    test, pool = photos(6, seed=0), photos(6, seed=1)
    test[4] = test[1]
    pool[3] = pool[5] = test[1]
    leaked = find(Data("x", stored(pool), None, stored(test)))
    assert {leak.test_row for leak in leaked} == {1, 4} and {leak.row for leak in leaked} == {3, 5}


def test_equal_images_do_not_make_a_leak_for_every_pair(stored):
    same = np.zeros((200, 3, 8, 8), dtype=np.uint8)
    leaked = find(Data("x", stored(same), None, stored(same)))
    assert len(leaked) < 400
    assert {leak.test_row for leak in leaked} == {leak.row for leak in leaked} == set(range(200))


def test_test_images_that_equal_each_other_are_no_leaks(stored):
    test = photos(6, seed=0)
    test[4] = test[1]
    assert find(Data("x", stored(photos(6, seed=1)), None, stored(test))) == []


def test_data_without_test_images_has_no_leaks(leaky):
    assert find(leaky._replace(train=None, test=None)) == []


def test_training_images_that_are_the_pool_are_looked_through_once(leaky):
    data = leaky._replace(pool=leaky.train)
    assert find(data) == [Leak(5, "pool", 0, 0, True)]
    left = without(data, find(data))
    assert left.pool is left.train and len(left.train) == 11


def test_what_leaks_is_left_out_and_the_test_images_stay(leaky):
    left = without(leaky, LEAKS)
    assert left.test is leaky.test and left.name == leaky.name
    assert np.array_equal(left.pool.images, np.delete(leaky.pool.images, [7, 8], axis=0))
    assert np.array_equal(left.train.images, leaky.train.images[1:])
    assert left.train.labels.tolist() == leaky.train.labels[1:].tolist()
    assert find(left) == []


def test_data_without_leaks_stay_as_they_are(leaky):
    left = without(leaky, LEAKS[:2])
    assert left.train is leaky.train and without(leaky, []) == leaky


def test_chunks_and_blocks_change_nothing(leaky, monkeypatch):
    monkeypatch.setattr(leaks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(leaks, "BLOCK", 5)
    assert find(leaky) == LEAKS


def test_looking_takes_far_less_memory_than_the_images(stored):
    pool, test = stored(np.repeat(photos(30, 0, size=96), 100, axis=0)), stored(photos(30, 1, size=96))
    tracemalloc.start()
    find(Data("x", pool, None, test))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < pool.images.nbytes / 2


def test_a_summary_counts_and_names_by_place(leaky):
    first, second = summary(leaky, LEAKS)
    assert first.startswith("2 of 12 test images are in the pool, 2 with the same pixels and 0 nearly")
    assert "image 3 is image 7" in first and "1 of 12 test images are in the training images" in second
    assert summary(leaky, []) == []


def saved(images, root):
    root.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(root / f"{number:02}.png")


@pytest.fixture
def photo_folder(tmp_path):
    for number, kind in enumerate(("cat", "dog")):
        saved(photos(6, seed=number), tmp_path / "photos" / "train" / kind)
        saved(photos(6, seed=2 + number), tmp_path / "photos" / "test" / kind)
    saved(photos(10, seed=4), tmp_path / "pool" / "deep")
    (tmp_path / "photos" / "test" / "cat" / "01.png").write_text("damaged")
    (tmp_path / "pool" / "00.png").write_bytes((tmp_path / "photos" / "test" / "cat" / "03.png").read_bytes())
    return tmp_path


def test_images_of_a_folder_are_named_by_their_files(photo_folder):
    data = folder.prepare(path=photo_folder / "photos", pool=photo_folder / "pool", limit=6)
    assert names(data.test, [0, 1, 5]) == ["'cat/00.png'", "'cat/02.png'", "'dog/00.png'"]
    assert names(data.pool, [0, 1, 5]) == ["'00.png'", "'deep/00.png'", "'deep/08.png'"]
    assert names(data.train.take([3, 7]), [1]) == ["'dog/01.png'"]
    assert summary(data, find(data))[0].endswith("nearly: 'cat/03.png' is '00.png'")
    few = folder.prepare(path=photo_folder / "photos", limit=4)
    assert names(few.pool, [1]) == ["'cat/03.png'"]


def test_images_of_a_changed_folder_have_numbers_rather_than_wrong_names(photo_folder):
    pool = folder.prepare(path=photo_folder / "pool").pool
    (photo_folder / "pool" / "deep" / "03.png").unlink()
    assert names(pool, [4]) == ["image 4"]
