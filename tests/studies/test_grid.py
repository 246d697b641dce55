"""A grid: what cannot work is refused before any work."""

import numpy as np
import pytest
from PIL import Image

from lilliput import api
from lilliput.api import make_cells
from lilliput.errors import BadData, BadSetting
from lilliput.studies.grid import Grid, check
from tests.studies.conftest import SHORT


def test_unlabelled_images_need_a_judge(scenes, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(photos / f"{number}.png")
    options = {**SHORT, "epochs": 1, "techniques": ["rotnet"], "backbones": ["shufflenet_v2"]}
    with pytest.raises(BadData, match="--judge"):
        api.study(photos, tmp_path / "s", **options)
    out = api.pretrain("rotnet", "shufflenet_v2", photos, tmp_path / "r", epochs=1, batch=16, width=0.5)
    rows = api.probe(out, scenes, probes=["knn"])
    assert set(rows["judge"]) == {"scenes"} and set(rows["data"]) == {"folder-photos"}


def test_too_few_labels_are_found_before_any_training(scenes, tmp_path):
    rng = np.random.default_rng(0)
    for split_name in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "few" / split_name / name
            folder.mkdir(parents=True)
            for number in range(5):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    with pytest.raises(BadData, match="held out"):
        api.study(
            scenes, tmp_path / "s", judge=tmp_path / "few", techniques=["rotnet"], backbones=["shufflenet_v2"], **SHORT
        )
    assert not (tmp_path / "s").exists()


def test_every_pair_of_technique_and_backbone_is_built_before_any_work(scenes, tmp_path):
    """Split-brain halves the width: of these pairs the last alone cannot be built."""
    pairs = {"techniques": ["rotnet", "split_brain"], "backbones": ["squeezenet", "shufflenet_v2"]}
    narrow = {**SHORT, "width": 0.125}
    with pytest.raises(BadSetting, match=r"shufflenet_v2 cannot be built at width 0\.0625"):
        api.study(scenes, tmp_path / "s", **pairs, **narrow)
    assert not (tmp_path / "s").exists()
    for techniques, backbones in ((["rotnet"], pairs["backbones"]), (pairs["techniques"], ["squeezenet"])):
        cells = make_cells(
            techniques, backbones, [0], recipe="small", epochs=1, batch=16, options={"width": narrow["width"]}
        )
        check(Grid(cells, scenes, scenes, {"knn": {}}, every=1))


ALL = ["byol", "rotnet", "moco_v2"]


def test_under_the_papers_recipe_each_technique_keeps_its_epochs_and_batch_whichever_is_named_first(scenes):
    for techniques in (ALL, ALL[::-1]):
        cells = make_cells(techniques, ["resnet18"], [0], recipe="paper", epochs=None, batch=None, options={})
        budgets = {cell.technique: (cell.recipe.epochs, cell.recipe.batch) for cell in cells}
        assert budgets == {"byol": (1000, 4096), "rotnet": (100, 128), "moco_v2": (200, 256)}
        grid = Grid(cells, scenes, scenes, {}, every=5)
        assert grid.epochs == 1000 and grid.budget == (100, 128)
    given = make_cells(ALL, ["resnet18"], [0], recipe="paper", epochs=7, batch=64, options={})
    assert {(cell.recipe.epochs, cell.recipe.batch) for cell in given} == {(7, 64)}


@pytest.mark.parametrize("recipe", ["small", "large"])
def test_under_the_other_recipes_all_have_one_budget(recipe):
    cells = make_cells(ALL, ["resnet18"], [0], recipe=recipe, epochs=None, batch=None, options={})
    assert len({(cell.recipe.epochs, cell.recipe.batch) for cell in cells}) == 1
