"""A cell: names, options and sizes that cannot work are refused before anything is written."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from lilliput import api, catalog
from lilliput.datasets import open_data
from lilliput.errors import BadData, BadSetting, UnknownName
from lilliput.training.cell import Cell, build_checked, make_cell, usual_recipe
from lilliput.training.initial import Init, Teacher
from tests.conftest import NARROW, SMALL


def test_a_batch_of_one_is_refused(scenes, tmp_path):
    with pytest.raises(BadSetting, match="batch 1"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path, **{**SMALL, "batch": 1})


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(scenes, tmp_path):
    with pytest.raises(BadSetting, match="batch of 100 is larger than the 48 images"):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", batch=100)
    assert not (tmp_path / "run").exists()


def test_a_misspelt_name_says_what_was_meant(tmp_path):
    for wrong, meant in ((("simclt", "resnet18"), "simclr"), (("simclr", "resnet81"), "resnet18")):
        with pytest.raises(UnknownName, match=f"did you mean '{meant}'"):
            api.pretrain(*wrong, out=tmp_path / "run")
    with pytest.raises(UnknownName, match="did you mean 'temperature'"):
        api.pretrain("simclr", "resnet18", out=tmp_path / "run", temprature=0.1)
    with pytest.raises(UnknownName, match="did you mean 'stl10'"):
        open_data("stl")


def test_one_image_is_not_enough(scenes, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "only.png")
    with pytest.raises(BadData, match="1 image"):
        api.pretrain("simclr", "resnet18", tmp_path / "photos", tmp_path / "run")


def test_an_image_size_below_what_a_backbone_takes_is_refused(photos, tmp_path):
    with pytest.raises(BadSetting, match=r"squeezenet.*8"):
        api.pretrain("simclr", "squeezenet", photos, tmp_path / "run", image_size=8, stem="stock")


@pytest.mark.parametrize(
    ("technique", "backbone", "size", "takes"),
    [("jigsaw", "alexnet", 64, 63), ("swav", "alexnet", 64, 63), ("jigsaw", "squeezenet", 32, 17)],
)
def test_parts_of_images_below_what_a_backbone_takes_are_refused(technique, backbone, size, takes, photos, tmp_path):
    """Tiles and small views: the images themselves are large enough."""
    said = (
        rf"{technique} on {backbone} .* of {size} pixels: .* that it takes is {takes}; .*--image-size.*--stem half or"
    )
    with pytest.raises(BadSetting, match=said):
        api.pretrain(technique, backbone, photos, tmp_path / "run", image_size=size, batch=2, stem="stock")
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadSetting, match="--image-size, or leave this pair out"):  # no stem is smaller
        build_checked(make_cell("jigsaw", "alexnet", options={"stem": "quarter"}), 32)


def test_parts_that_a_library_refuses_in_its_own_words_are_refused_in_ours():
    """timm's transformers raise an AssertionError."""
    with pytest.raises(BadSetting, match=r"swav on timm/vit_tiny_patch16_224 with images of 48 pixels: .* takes is 32"):
        build_checked(make_cell("swav", "timm/vit_tiny_patch16_224"), 48)


def test_a_teacher_that_takes_larger_images_alone_is_named_and_no_stem_of_the_student_offered():
    teacher = Teacher(Init("large", Path(), ""), lambda: catalog.backbone_builder("alexnet")())
    with pytest.raises(BadSetting, match=r"alexnet cannot take images of 32 .*; give a larger --image-size, or leave"):
        build_checked(make_cell("distil", "shufflenet_v2", teacher=teacher), 32)


@pytest.mark.parametrize("failure", [RuntimeError, IndexError, AssertionError, BadSetting])
def test_another_failure_of_two_images_refuses_nothing(failure, monkeypatch):
    """What is asked of a technique beforehand is what its network takes, and not whether two images are enough."""
    cell = make_cell("simclr", "shufflenet_v2")
    kind = catalog.technique("simclr")

    def views(*_):
        raise failure("two are too few")

    monkeypatch.setattr(kind, "views", views)
    assert isinstance(build_checked(cell, 32), kind)


def test_a_technique_that_cannot_be_copied_is_not_refused_for_it(monkeypatch):
    build = Cell.build

    def with_lock(self):
        technique = build(self)
        technique.lock = threading.Lock()
        return technique

    monkeypatch.setattr(Cell, "build", with_lock)
    assert build_checked(make_cell("simclr", "shufflenet_v2"), 32).lock


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": "hot"}, "temperature 'hot' is not of type float"),
        ({"decoupled": 1}, "decoupled 1 is not of type bool"),
        ({"seed": -1}, "seed -1"),
        ({"country": "XYZ"}, "no energy figures for country 'XYZ'"),
        ({"beta2": 1.5}, "beta"),
    ],
)
def test_an_unusable_value_is_refused_before_anything_is_written(wrong, message, scenes, tmp_path):
    with pytest.raises(BadSetting, match=message):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **{**NARROW, **wrong})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("images", "size", "name"), [(50_000, 64, "large"), (49_999, 96, "small"), (100_000, 32, "small")]
)
def test_many_images_of_some_size_are_trained_by_the_large_recipe(images, size, name):
    pool = type("Pool", (), {"__len__": lambda _: images, "image_size": size})()
    assert usual_recipe(SimpleNamespace(pool=pool)) == name


class Pool(NamedTuple):
    count: int
    image_size: int

    def __len__(self):
        return self.count


@pytest.mark.parametrize(
    ("size", "count", "changes", "stem"),
    [
        (48, 640, {}, "half"),  # 640 images in batches of 32, ten times: 200 steps
        (49, 640, {}, None),
        (48, 639, {}, None),
        (32, 640, {"epochs": 9}, None),
        (32, 640, {"recipe": "paper"}, None),
        (32, 640, {"options": {"stem": "stock"}}, "stock"),
        (64, 640, {"options": {"stem": "quarter"}}, "quarter"),
    ],
)
def test_small_images_have_a_stem_that_halves_once_less_where_training_is_not_short(size, count, changes, stem):
    data = SimpleNamespace(pool=Pool(count, size))
    cell = make_cell("simclr", "shufflenet_v2", **{"epochs": 10, "batch": 32, **changes}, data=data)
    assert cell.backbone_options.get("stem") == stem


def test_to_choose_a_stem_draws_none_of_the_callers_numbers():
    before = torch.random.get_rng_state()
    make_cell("simclr", "timm/resnet10t", data=SimpleNamespace(pool=Pool(6400, 32)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_networks_whose_stem_cannot_be_changed_keep_it():
    data = SimpleNamespace(pool=Pool(6400, 32))
    assert make_cell("simclr", "timm/convnext_atto", data=data).backbone_options == {}  # a patch of four, at once


def test_a_backbone_of_ones_own_without_the_option_stays_as_it_is(tmp_path):
    (tmp_path / "own_net.py").write_text(
        "from lilliput.backbones.resnet18 import resnet18\n"
        "def own_net(*, channels=3, width=1.0): return resnet18(channels=channels, width=width)\n"
    )
    data = SimpleNamespace(pool=Pool(6400, 32))
    name = catalog.take("backbones", str(tmp_path / "own_net.py"))
    assert make_cell("simclr", name, data=data).backbone_options == {}
