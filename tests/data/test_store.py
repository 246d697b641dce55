"""Images at rest: batches, epochs, subsets, and what tells them apart."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from lilliput import api
from lilliput.data import store
from lilliput.data.leaks import Leak, without
from lilliput.data.store import Data, chosen_size, spaced
from lilliput.datasets import open_data
from lilliput.errors import BadData, BadSetting
from lilliput.probes import extract
from lilliput.system import files
from lilliput.system.records import read_json
from lilliput.training.encoders import encoder_path
from tests.conftest import CPU, flip_bit, rng
from tests.data.conftest import noise, written

SOME = np.array([True, False, False, True, False, False])
WAYS_TO_ASK = {
    "list": ([4, 0, 2, 2], [4, 0, 2, 2]),
    "array": (np.array([4, 0, 2, 2]), [4, 0, 2, 2]),
    "tensor": (torch.tensor([4, 0, 2, 2]), [4, 0, 2, 2]),
    "slice": (slice(1, 5, 2), [1, 3]),
    "from the end": ([-1], [5]),
    "mask": (SOME, [0, 3]),
    "tensor mask": (torch.from_numpy(SOME), [0, 3]),
}


@pytest.mark.parametrize(("indices", "rows"), WAYS_TO_ASK.values(), ids=WAYS_TO_ASK.keys())
def test_a_batch_is_a_copy_of_the_images_asked_for(tmp_path, indices, rows):
    pixels = noise(6)
    opened = written(tmp_path / "s", pixels)
    batch = opened.batch(indices)
    assert batch.dtype == torch.uint8 and np.array_equal(batch.numpy(), pixels[rows])
    batch.zero_()
    assert np.array_equal(opened.images, pixels)


def test_an_empty_batch_is_empty(tmp_path):
    assert written(tmp_path / "s", noise(6)).batch([]).shape == (0, 3, 8, 8)


def test_a_batch_beyond_the_end_is_an_error(tmp_path):
    with pytest.raises(IndexError):
        written(tmp_path / "s", noise(2)).batch([2])


def test_a_pickled_store_carries_no_pixels(tmp_path):
    opened = written(tmp_path / "s", noise(50, 32))
    assert len(pickle.dumps(opened)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).images, opened.images)


def test_spaced_rows_reach_over_the_whole_list():
    assert spaced(10, None).tolist() == spaced(10, 10).tolist() == spaced(10, 99).tolist() == list(range(10))
    assert spaced(10, 3).tolist() == [0, 3, 6]
    gaps = np.diff(spaced(100_000, 777))
    assert len(gaps) == 776 and set(gaps) == {128, 129}
    with pytest.raises(BadSetting, match="limit 0"):
        spaced(10, 0)


def test_a_wrong_image_size_is_refused():
    for size in (-1, 0, 7, 4096):
        with pytest.raises(BadSetting, match=str(size)):
            chosen_size(size, 96)


@pytest.fixture
def twelve(tmp_path):
    return written(tmp_path / "twelve", noise(12))


@pytest.fixture
def many(tmp_path):
    """23 images in a store, two to a class."""
    return written(tmp_path / "many", noise(23), labels=np.arange(23) // 2, classes=list("abcdefghijkl"), masks=True)


def test_an_epoch_is_the_permutation_of_the_generator_in_whole_batches(many):
    batches = list(many.batches(5, "cpu", 1, rng(3)))
    order = torch.randperm(23, generator=rng(3))
    assert len(batches) == 4  # three images are left over
    assert torch.equal(torch.cat(batches), torch.from_numpy(many.images[order[:20].numpy()]) / 255)


def test_an_epoch_goes_on_in_the_middle_with_what_was_left(many):
    whole = list(many.batches(5, "cpu", 1, rng(3)))
    for start in range(5):
        rest = list(many.batches(5, "cpu", 1, rng(3), start))
        assert len(rest) == 4 - start
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(rest, whole[start:], strict=True))


def test_the_order_of_an_epoch_is_drawn_before_its_first_batch(many):
    draws, same = rng(3), rng(3)
    batches = many.batches(5, "cpu", 1, draws)
    torch.randperm(23, generator=same)
    assert torch.equal(draws.get_state(), same.get_state())
    draws.manual_seed(0)  # what is drawn in between changes nothing
    assert torch.equal(next(batches), next(many.batches(5, "cpu", 1, rng(3))))


def test_an_epoch_of_fewer_images_than_a_batch_is_empty(many):
    assert list(many.batches(24, "cpu", 1, rng())) == []


def test_batches_of_a_subset_hold_its_rows_alone(many):
    rows = [1, 4, 9, 16]
    (batch,) = many.take(rows).batches(4, "cpu", 1, rng())
    assert torch.equal(batch.sort(0).values, (torch.from_numpy(many.images[rows]) / 255).sort(0).values)


def test_images_are_loaded_as_numbers_between_0_and_1(many):
    loaded = many.load([2, 3], "cpu")
    assert loaded.dtype == torch.float32 and torch.equal(loaded, torch.from_numpy(np.array(many.images[2:4])) / 255)


def test_data_are_judged_by_their_labelled_images_or_by_none(many):
    assert Data("x", many, many, many.take(range(1, len(many)))).judging[0] is many
    for incomplete in (Data("x", many, None, None), Data("x", many, many, None), Data("x", many, None, many)):
        with pytest.raises(BadData, match="x has no labels to judge by"):
            incomplete.judging  # noqa: B018


def test_images_without_labels_or_classes_say_how_to_give_them(tmp_path):
    plain = written(tmp_path / "plain", noise(2))
    assert not plain.is_labelled
    for asked in ("labels", "classes"):
        with pytest.raises(BadData, match=f"have no {asked}: put them in train/<class>/"):
            getattr(plain, asked)


def test_a_subset_takes_labels_and_masks_with_it_and_says_what_it_leaves_out(many):
    few = many.take([2, 0, 21])
    assert few.labels.tolist() == [1, 0, 10] and few.classes == many.classes
    assert np.array_equal(few.masks, many.masks[[2, 0, 21]])
    assert few.origin == {"digest": many.digest, "left_out": [row for row in range(23) if row not in (0, 2, 21)]}


WAYS_TO_ASK_A_SUBSET = {
    "slice": (slice(1, 4), [1, 2, 3]),
    "list": ([3, 0], [3, 0]),
    "array": (np.array([3, 0]), [3, 0]),
    "tensor": (torch.tensor([3, 0]), [3, 0]),
    "mask": (SOME[:5], [0, 3]),
    "tensor mask": (torch.from_numpy(SOME[:5]), [0, 3]),
    "from the end": ([-1], [4]),
    "nothing": ([], np.arange(0)),
}


def test_a_subset_has_a_digest_of_its_store_and_rows(twelve, tmp_path):
    others = written(tmp_path / "others", noise(12, seed=1))
    digests = [twelve.take(rows).digest for rows in ([0, 1], [1, 0], [0], range(12))]
    digests += [twelve.digest, others.take([0, 1]).digest]
    assert len(set(digests)) == len(digests) and all(len(digest) == 64 for digest in digests)
    mask = np.arange(12) < 2
    same = [mask, torch.from_numpy(mask), torch.tensor([0, 1]), slice(0, 2), [-12, -11]]
    assert {twelve.take(rows).digest for rows in same} == {digests[0]}
    assert twelve.take([5, 1, 0]).take([2, 1]).digest == digests[0]  # a subset of a subset is one of the store


@pytest.mark.parametrize(("indices", "places"), WAYS_TO_ASK_A_SUBSET.values(), ids=WAYS_TO_ASK_A_SUBSET.keys())
def test_a_batch_of_a_subset_is_one_of_its_rows_and_reads_no_others(twelve, indices, places, monkeypatch):
    rows = np.array([9, 2, 4, 7, 0])
    monkeypatch.setattr(store.Subset, "images", property(lambda self: pytest.fail("copied everything")))
    assert np.array_equal(twelve.take(rows).batch(indices).numpy(), twelve.images[rows[places]])


def test_a_subset_is_pickled_by_its_rows_and_once_where_it_is_pool_and_training_images(tmp_path):
    large = written(tmp_path / "large", noise(12, size=48), labels=np.arange(12) % 2, classes=["a", "b"])
    few = large.take(range(1, 12))
    data = Data("x", few, few, large)
    again = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 3000 and again.pool is again.train
    assert again.train.digest == few.digest and np.array_equal(again.train.images, few.images)


def test_a_subset_trains_and_is_judged_as_a_store_is(scenes, tmp_path):
    data = without(scenes, [Leak(0, "pool", 4, 3, False), Leak(1, "train", 150, 0, True)])
    plan = {"precision": "fp32", "channels_last": False}
    options = {"epochs": 1, "batch": 16, "width": 0.25, "device": "cpu", "plan": plan, "until_converged": 1}
    folder = api.pretrain("rotnet", "resnet18", data, tmp_path / "run", **options)
    record = read_json(folder / "run.json")
    assert (record["data_digest"], record["pool_images"]) == (data.pool.digest, 47)
    assert encoder_path(folder, 1).exists()
    assert set(api.probe(folder, data, plan=plan)["probe"]) == {"linear", "knn"}


def test_features_of_a_subset_are_those_of_its_rows(scenes):
    encoder = torch.nn.Flatten()
    left = scenes.train.take(np.arange(1, 200))
    whole = extract(encoder, scenes.train, plan=CPU)
    assert torch.equal(extract(encoder, left, plan=CPU, batch=64), whole[1:])


def test_a_store_that_lost_a_bit_is_set_aside_and_written_again(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(folder / f"{number}.png")
    first = open_data(folder).pool
    expected = first.digest
    for name in ("images.npy", "manifest.json"):
        place = first.folder
        del first
        flip_bit(place / name)
        first = open_data(folder).pool
        assert first.digest == expected and first.folder == place
        assert "set aside" in capsys.readouterr().err
    assert len(list(files.home().glob("stores/*damaged*"))) == 2
