"""What the tests of the benchmarks share: pictures of two kinds, and figures of two steps."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import throughput
from benchmarks.peer import Case


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A pool of 16 pictures, and two classes of 20 to learn from and 5 to judge by, 32 px."""
    folder, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    counts = {"pool": 16, "labelled/train/dim": 20, "labelled/train/light": 20}
    for name, count in {**counts, "labelled/test/dim": 5, "labelled/test/light": 5}.items():
        (folder / name).mkdir(parents=True)
        brightest = 256 if name.endswith("light") else 128
        for number in range(count):
            pixels = draws.integers(0, brightest, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A figure is that of two steps."""
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    monkeypatch.setattr(throughput, "STEPS", 2)


def case_of(photos, technique="simclr"):
    return Case(technique, "shufflenet_v2", size=32, batch=4, pool=str(photos / "pool"))


def needs_lightly():
    pytest.importorskip("lightly", reason="lightly is not installed (extra bench)")
