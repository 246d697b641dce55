"""A finished study with its report, which the tests of reports share."""

import numpy as np
import pytest
from PIL import Image

from lilliput import api
from tests.conftest import PLAN

NASTY = "<img src=x onerror=alert(1)>&\"'"
SMALL = {
    "techniques": ["simclr", "split_brain"],
    "backbones": ["shufflenet_v2"],
    "width": 0.5,
    "epochs": 2,
    "every": 1,
    "batch": 16,
    "probes": ["linear", "knn", "few_finetune"],
    "device": "cpu",
    "plan": PLAN,
}
EPOCHS = (0, 5, 10)
COSTS = {"parameters": 2e6, "multiply_adds": 56e6, "multiply_adds_224": 301e6, "images_per_s": 1000.0}


def rows_of(technique, backbone, values, *, seed=0, held_out=None, epochs=EPOCHS, probe="linear", metric="accuracy"):
    """Rows of one cell: a test value for each epoch, and held-out ones where given."""
    made = []
    for name, series in ((metric, values), (f"held_out_{metric}", held_out or ())):
        for epoch, value in zip(epochs, series, strict=False):
            made.append(
                COSTS
                | {"technique": technique, "backbone": backbone, "seed": seed, "epoch": epoch, "probe": probe}
                | {"metric": name, "value": value, "data": "scenes", "judge": "stl10", "recipe": "short"}
                | {"image_size": 96, "seconds": 60.0 * epoch, "probe_seconds": 4.0, "kwh": 0.01 * epoch}
                | {"grams_co2": 2.0 * epoch, "grams_co2_ml_impact": 3.0 * epoch}
            )
    return made


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Two techniques on a small network, on photographs whose classes have the worst of names."""
    folder = tmp_path_factory.mktemp("study")
    draw = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(folder / "home"))
        patch.setattr("lilliput.probes.few_finetune.EPOCHS", {1: 1, 10: 1})  # its own tests fine-tune in earnest
        patch.setattr("lilliput.probes.few_finetune.STEPS", 1)
        for split, count in (("train", 24), ("test", 12)):
            for place, name in enumerate((NASTY.replace("/", ""), "plain", "$x_1$")):
                here = folder / "photos" / split / name
                here.mkdir(parents=True)
                for number in range(count):
                    pixels = draw.integers(0, 120, (32, 32, 3)) + 45 * place
                    Image.fromarray(pixels.astype(np.uint8)).save(here / f"{number}.png")
        out, failed = api.study(folder / "photos", folder / "study", **SMALL)
        assert not failed
        paths = api.report(out)
    return out, paths, folder / "photos"
