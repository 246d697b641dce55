"""Images that runs learn from: a folder of photos, and scenes enough for runs that are broken on purpose."""

import numpy as np
import pytest
from PIL import Image

from lilliput import api, catalog
from lilliput.datasets import open_data
from lilliput.training.record import read_log
from tests.conftest import PLAN

GUARDED = {"epochs": 10, "batch": 32, "device": "cpu", "plan": PLAN, "width": 0.5}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 64 images without labels."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def more_scenes(tmp_path_factory):
    """448 unlabelled scenes of 32 px."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield open_data("scenes", image_size=32, limit=448)


def flags_of(technique, scenes, out, *, kind=None, **settings):
    """Of every epoch of a run, its flags; `kind`: a class to train in the place of the technique of that name."""
    usual = catalog.technique
    with pytest.MonkeyPatch.context() as patch:
        if kind:
            patch.setattr(catalog, "technique", lambda name: kind if name == technique else usual(name))
        run = api.pretrain(technique, settings.pop("backbone", "shufflenet_v2"), scenes, out, **settings)
    return [row.get("flags", []) for row in read_log(run)]
