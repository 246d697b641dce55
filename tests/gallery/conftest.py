"""Folders of small drawings, and a lens that needs no training: an untrained network of a run."""

import numpy as np
import pytest
from PIL import Image

from lilliput.gallery.lens import open_lens


def drawing(draw, size=48):
    """Smooth colours with an edge or two, as photographs have: RGB."""
    coarse = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((size, size), Image.Resampling.BICUBIC))
    left, top = draw.integers(4, size // 2, 2)
    pixels[top : top + size // 3, left : left + size // 3] = draw.integers(0, 256, 3)
    return Image.fromarray(pixels)


def drawings(folder, count, *, seed=0, size=48):
    """So many files in the folder, 000.png and on."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        drawing(draw, size).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def photos(tmp_path):
    """Twelve drawings in two folders within one another."""
    drawings(tmp_path / "photos", 8)
    drawings(tmp_path / "photos" / "more" / "deeper", 4, seed=1)
    return tmp_path / "photos"


@pytest.fixture
def lens(finished_run):
    return open_lens(finished_run)


@pytest.fixture
def small_batches(monkeypatch):
    """Four images at a time."""
    from lilliput.gallery import lens

    monkeypatch.setattr(lens, "BATCH", 4)
