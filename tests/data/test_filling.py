"""Filling a store: what cannot be read is given up by name, and every row is worked on."""

import numpy as np
import pytest
from PIL import Image

from lilliput.data.filling import ROWS_PER_JOB, fill_from_array, fill_from_files, in_parallel

rng = np.random.default_rng(0)


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_unreadable_files_are_given_up_with_a_reason_and_the_rest_is_right(tmp_path):
    colours = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    whole = saved(tmp_path / "whole.png", colours)
    content = whole.read_bytes()
    broken = {
        "cut.png": content[: len(content) // 2],
        "empty.jpg": b"",
        "text.webp": b"hello",
        "head.png": content[:40],
    }
    for name, wrong in broken.items():
        (tmp_path / name).write_bytes(wrong)
    jpeg = saved(tmp_path / "cut.jpg", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    names = [*broken, "cut.jpg", "whole.png", "gone.png"]
    images = np.zeros((len(names), 3, 16, 16), np.uint8)
    skipped = fill_from_files([tmp_path / name for name in names], names, "x")(images, None)
    assert {entry["file"] for entry in skipped.values()} == set(names) - {"whole.png"}
    assert all(names[row] == entry["file"] and entry["reason"] for row, entry in skipped.items())
    assert skipped[names.index("empty.jpg")]["reason"] == "empty"
    assert np.array_equal(images[names.index("whole.png")], colours.transpose(2, 0, 1))


def test_raw_images_keep_their_pixels_at_their_own_size_and_their_mean_at_others():
    raw = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    own, smaller = np.zeros((3, 3, 32, 32), np.uint8), np.zeros((3, 3, 16, 16), np.uint8)
    for images in (own, smaller):
        fill_from_array(raw, np.array([4, 0, 2]), "x")(images, None)
    assert np.array_equal(own, raw[[4, 0, 2]].transpose(0, 3, 1, 2))
    assert np.abs(smaller.mean((2, 3)) - own.mean((2, 3))).max() < 3


def test_every_row_is_worked_on_once_and_errors_come_out():
    rows = []
    in_parallel(rows.append, 3 * ROWS_PER_JOB + 1, "x")
    assert sorted(rows) == list(range(3 * ROWS_PER_JOB + 1))
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda row: 1 // row, 100, "x")
