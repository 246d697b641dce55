"""Segmentation, on bright squares and on networks whose sight is known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lilliput.datasets import open_data
from lilliput.probes import MaskedExam
from lilliput.probes.segmentation import _places_of, _sides, mean_iou, on_grid, segmentation
from lilliput.studies.judge import Pixels
from tests.conftest import CPU

COUNTS = {"train": 40, "test": 24}


def squares(folder, *, train_masks=True):
    """A folder of two classes, 32 px: bright squares on dark grounds, more often in the middle; and masks."""
    draw, packed = np.random.default_rng(0), {}
    for split, count in COUNTS.items():
        masks = np.zeros((count, 16, 16), dtype=np.uint8)
        for number in range(count):
            top, left = 2 * draw.integers(1, 4, 2)
            masks[number, top : top + 6, left : left + 6] = 1
            lit = masks[number].repeat(2, 0).repeat(2, 1)[..., None]
            pixels = draw.integers(0, 60, (32, 32, 3)) + 190 * lit
            place = folder / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
        packed[f"{split}_index"], packed[f"{split}_mask"] = np.arange(count), np.packbits(masks.reshape(count, -1), 1)
    if not train_masks:
        packed["train_index"], packed["train_mask"] = packed["train_index"][:0], packed["train_mask"][:0]
    np.savez(folder / "masks.npz", **packed)
    return open_data(folder, image_size=32)


class Place(nn.Module):
    """Sees no image: where it looks is all that it knows, in two stages."""

    def stages(self, images):
        place = torch.linspace(-1, 1, 16)
        down, across = place[:, None].expand(16, 16), place.expand(16, 16)
        both = torch.stack([down, across])
        return [part.expand(len(images), -1, -1, -1) for part in (both, both.square())]


def exam_of(encoder, data):
    return MaskedExam(encoder, data.train, data.test, plan=CPU)


def test_the_mean_iou_by_hand():
    truth = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]]])
    guess = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 0]]])
    value, half = mean_iou(guess, truth)  # object: 2 of 4; background: 4 of 6
    assert value == pytest.approx((2 / 4 + 4 / 6) / 2)
    assert half == 0  # either image alone: object 1 of 2, background 2 of 3
    assert mean_iou(truth, truth)[0] == 1 and mean_iou(1 - truth, truth)[0] == 0


def test_the_interval_is_as_wide_as_the_spread_of_studies_says():
    values, halves, draw = [], [], torch.Generator().manual_seed(0)
    for _ in range(200):
        truth = (torch.rand(40, 8, 8, generator=draw) < torch.rand(40, 1, 1, generator=draw)).long()
        guess = torch.where(
            torch.rand(40, 8, 8, generator=draw) < 0.3 * truth.float().mean((1, 2))[:, None, None], 1 - truth, truth
        )
        value, half = mean_iou(guess, truth)
        values.append(value)
        halves.append(half)
    assert np.mean(halves) == pytest.approx(1.96 * np.std(values), rel=0.15)


def test_what_shows_in_the_pixels_is_told_from_them_and_what_is_without_a_look_stands_beside(tmp_path):
    data = squares(tmp_path)
    rows = dict(segmentation(exam_of(Pixels(), data)))
    assert rows["miou_linear"] > 0.99 and rows["miou_knn"] > 0.99
    assert rows["object_images"] == 24 and rows["object_area"] == pytest.approx(36 / 256)
    assert rows["miou_all_object"] == pytest.approx(36 / 256 / 2)
    for name in ("other_mask", "mean_mask"):
        assert 0.3 < rows[f"miou_{name}"] < 0.75


def test_a_network_that_knows_the_place_alone_tells_what_the_mean_mask_does(tmp_path):
    rows = dict(segmentation(exam_of(Place(), squares(tmp_path)), places=4000))
    half = rows["miou_mean_mask_half"]
    for name in ("linear", "knn"):
        assert abs(rows[f"miou_{name}"] - rows["miou_mean_mask"]) < half + 0.05


def test_without_masks_of_training_images_half_of_those_of_the_test_images_teach(tmp_path):
    data = squares(tmp_path, train_masks=False)
    exam = exam_of(Pixels(), data)
    known, judged = _sides(exam, 200, 16)
    assert not set(known.images.rows) & set(judged.images.rows) and len(known.images) == len(judged.images) == 12
    assert torch.equal(judged.truth, on_grid(exam.masks[judged.images.rows], 16, "cpu"))
    rows = dict(segmentation(exam))
    assert rows["object_images"] == 12 and rows["miou_linear"] > 0.99


def test_places_are_so_many_of_every_image_with_their_own_truth_and_the_same_for_all_encoders(tmp_path):
    exam = exam_of(Pixels(), squares(tmp_path))
    known, _ = _sides(exam, 30, 16)
    features, labels, image = _places_of(exam, known, 300)
    assert features.shape == (300, 3) and image.bincount().tolist() == [10] * 30
    assert ((features.mean(1) > 0.5) == (labels == 1)).float().mean() > 0.97
    others, again, _ = _places_of(exam_of(Place(), squares(tmp_path)), known, 300)
    assert torch.equal(labels, again) and others.shape == (300, 4)


def test_where_no_mask_tells_an_object_from_its_surroundings_there_are_no_figures(tmp_path):
    data = squares(tmp_path)
    exam = exam_of(Pixels(), data)
    exam.__dict__["masks"] = np.ones_like(exam.masks)
    assert list(segmentation(exam)) == []
