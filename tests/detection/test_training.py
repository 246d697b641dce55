"""Detectors on encoders: what learns and what does not, and that it learns."""

import copy

import pytest
import torch

from lilliput import catalog
from lilliput.detection.boxes import open_boxes
from lilliput.detection.model import detector
from lilliput.detection.scores import scores
from lilliput.detection.training import found_in, learn, recipe
from lilliput.errors import BadSetting
from lilliput.system.plan import Plan
from lilliput.system.seeds import seeded
from tests.conftest import CPU
from tests.detection.conftest import rectangles


def encoder(name="shufflenet_v2", **options):
    with seeded(0):
        return catalog.backbone_builder(name, **options)()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return open_boxes(rectangles(tmp_path_factory.mktemp("boxes"), 10), 64)[0]


@pytest.mark.parametrize("name", catalog.BACKBONES)
@pytest.mark.parametrize("options", [{}, {"stem": "half"}])
def test_boxes_are_looked_for_on_maps_of_a_stride_of_16_and_its_doubles(name, options):
    model = detector(encoder(name, **options), 2, 128, tuned=False, plan=CPU).eval()
    with torch.no_grad():
        maps = model.backbone(torch.rand(1, 3, 128, 128))
    sides = [level.shape[-1] for level in maps.values()]
    assert (sides[0] in (7, 8) or encoder(name, **options).stride < 16) and sides[-1] == 1
    assert sides == sorted(set(sides), reverse=True)
    assert [level.shape[1] for level in maps.values()] == model.backbone.out_channels


def test_both_halves_of_a_split_brain_are_looked_through():
    build = catalog.backbone_builder("shufflenet_v2")
    model = detector(catalog.technique("split_brain").build_encoder(build), 2, 64, tuned=True, plan=CPU).eval()
    assert len(model([torch.rand(3, 64, 64)])[0]["scores"])


@pytest.mark.parametrize("tuned", [False, True])
def test_a_frozen_encoder_stays_as_it_is_and_a_tuned_one_does_not(images, tuned):
    own = encoder()
    before = copy.deepcopy(own.state_dict())
    model = learn(own, images, recipe(steps=2, batch=4, lr=1e-3), tuned=tuned, seed=0, plan=CPU)
    after = model.backbone.encoder.state_dict()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same.values()) is not tuned
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())  # a copy learns


def test_a_seed_gives_the_same_detector(images):
    how = recipe(steps=2, batch=4, lr=1e-3)
    one, two, other = (
        learn(encoder(), images, how, tuned=False, seed=s, plan=CPU).head.state_dict() for s in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_mixed_precision_leaves_the_head_in_full(images):
    plan = Plan("cpu", "bf16", channels_last=True)
    model = learn(encoder(), images, recipe(steps=1, batch=4, lr=1e-3), tuned=True, seed=0, plan=plan)
    model.eval()
    with torch.no_grad():
        assert {level.dtype for level in model.backbone(images.load([0], "cpu")).values()} == {torch.float32}


def test_an_encoder_that_cannot_take_the_images_says_so():
    with pytest.raises(BadSetting, match="cannot take images of 4 pixels; give a larger --image-size"):
        detector(encoder("squeezenet"), 2, 4, tuned=True, plan=CPU)


@pytest.mark.heavy
def test_a_detector_learns_coloured_rectangles(images):
    """Every object found, of the right colour, in the images that it learned from."""
    how = recipe(steps=200, batch=8, lr=3e-3)
    model = learn(encoder(), images, how, tuned=True, seed=0, plan=CPU)
    untrained = learn(encoder(), images, recipe(steps=1, batch=8, lr=0.0), tuned=True, seed=0, plan=CPU)
    learned, guessed = (dict(scores(found_in(one, images, plan=CPU), images))["ap50"] for one in (model, untrained))
    assert learned > 0.8 and guessed < 0.3
