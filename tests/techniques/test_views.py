"""What each technique does to its images: which transforms, in which order and how strong, on which view.

By the papers: SimCLR, appendix A; MoCo v2, section 3; BYOL, appendix B; RotNet, section 3; Split-Brain, section 4.
"""

import inspect

import pytest
import torch

from lilliput import catalog
from lilliput.images import augment
from tests.conftest import rng
from tests.techniques.conftest import resnet

TRANSFORMS = ("resized_crop", "padded_crop", "colour_jitter_", "grey_", "solarise_", "blur_")


def jitter(brightness, contrast, saturation, hue):
    named = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    return "colour_jitter_", {**named, "p": 0.8}


def crop(smallest):
    return "resized_crop", {"size": None, "area": (smallest, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5}


def grey(p=0.2):
    return "grey_", {"p": p}


def blur(p):
    return "blur_", {"p": p, "sigma": (0.1, 2.0)}


def solarise(p):
    return "solarise_", {"p": p, "threshold": 0.5}


STRONG, MODERATE, OWN = jitter(0.8, 0.8, 0.8, 0.2), jitter(0.4, 0.4, 0.4, 0.1), jitter(0.4, 0.4, 0.2, 0.1)
VIEWS = {  # technique, recipe -> for each view its transforms in order
    ("simclr", "paper"): [[crop(0.08), STRONG, grey(), blur(0.5)]] * 2,
    ("simclr", "small"): [[crop(0.2), MODERATE, grey(), blur(0.0)]] * 2,
    ("moco_v2", "paper"): [[crop(0.2), MODERATE, grey(), blur(0.5)]] * 2,
    ("moco_v2", "small"): [[crop(0.2), MODERATE, grey(), blur(0.0)]] * 2,
    ("byol", "paper"): [
        [crop(0.08), OWN, grey(), blur(1.0), solarise(0.0)],
        [crop(0.08), OWN, grey(), blur(0.1), solarise(0.2)],
    ],
    ("byol", "small"): [
        [crop(0.2), OWN, grey(), blur(0.0), solarise(0.0)],
        [crop(0.2), OWN, grey(), blur(0.0), solarise(0.2)],
    ],
    ("rotnet", "paper"): [[("padded_crop", {"padding": 1 / 8, "flip": 0.5})]],
    ("split_brain", "paper"): [[crop(0.3)]],
    ("moco_v1", "paper"): [[crop(0.2), MODERATE, grey(), blur(0.0)]] * 2,
    ("barlow_twins", "paper"): [
        [crop(0.08), OWN, grey(), blur(1.0), solarise(0.0)],
        [crop(0.08), OWN, grey(), blur(0.1), solarise(0.2)],
    ],
    ("vicreg", "paper"): [[crop(0.08), OWN, grey(), blur(0.5), solarise(0.1)]] * 2,
    ("simsiam", "paper"): [[crop(0.2), MODERATE, grey(), blur(0.5)]] * 2,
    ("fastsiam", "paper"): [[crop(0.2), MODERATE, grey(), blur(0.5)]] * 4,
    ("sigreg", "paper"): [[crop(0.08), STRONG, grey(), blur(0.5), solarise(0.2)]] * 4,
    ("colourisation", "paper"): [[crop(0.3)]],
    ("inpainting", "paper"): [[crop(0.3)]],
    ("counting", "paper"): [[crop(0.3), grey(0.5)]],
}
SMALL_VIEW = ("resized_crop", {**crop(0.08)[1], "size": 16, "area": (0.05, 0.3)})
SMALL_VIEWS = {  # technique -> the transforms of one small view of images of 32 pixels, by its paper's recipe
    "simclr": [SMALL_VIEW, STRONG, grey(), blur(0.5)],
    "moco_v2": [SMALL_VIEW, MODERATE, grey(), blur(0.5)],
    "byol": [SMALL_VIEW, OWN, grey(), blur(0.0), solarise(0.0)],
}
MANY_VIEWS = {  # technique -> its two whole views and one of its six small ones, by its paper's recipe
    "swav": ([[crop(0.14), STRONG, grey(), blur(0.5)]] * 2, [STRONG, grey(), blur(0.5)]),
    "dino": (
        [
            [crop(0.14), OWN, grey(), blur(1.0), solarise(0.0)],
            [crop(0.14), OWN, grey(), blur(0.1), solarise(0.2)],
        ],
        [OWN, grey(), blur(0.5), solarise(0.0)],
    ),
}


@pytest.mark.parametrize(("technique", "recipe"), VIEWS)
def test_views_are_made_by_the_papers_transforms(technique, recipe, monkeypatch):
    same_transforms(made(technique, recipe, monkeypatch), VIEWS[technique, recipe])


@pytest.mark.parametrize("technique", SMALL_VIEWS)
def test_small_views_are_changed_as_the_whole_ones_are_but_for_byols_blur(technique, monkeypatch):
    done = made(technique, "paper", monkeypatch, small_views=2)
    same_transforms(done, [*VIEWS[technique, "paper"], *[SMALL_VIEWS[technique]] * 2])


@pytest.mark.parametrize("technique", MANY_VIEWS)
def test_two_whole_views_and_six_small_ones(technique, monkeypatch):
    whole, small = MANY_VIEWS[technique]
    cut = ("resized_crop", {**crop(0.08)[1], "size": 16, "area": (0.05, 0.14)})
    same_transforms(made(technique, "paper", monkeypatch), [*whole, *[[cut, *small]] * 6])


def made(technique, recipe, monkeypatch, **options):
    """For each view that a technique makes, its transforms in order, with their settings."""
    done: list[list] = []

    def recorded(name):
        transform = getattr(augment, name)

        def record(images, rng, **options):
            bound = inspect.signature(transform).bind(images, rng, **options)
            bound.apply_defaults()
            settings = {key: value for key, value in bound.arguments.items() if key not in ("images", "rng")}
            if name.endswith("crop"):
                done.append([])
                assert images is originals
            else:
                assert images is last[0]  # of this view, and not of the other
            done[-1].append((name, settings))
            last[0] = images + 0
            return last[0]

        return record

    kind = catalog.technique(technique)
    model = kind(resnet, **getattr(kind, recipe).options, **options)
    originals, last = torch.rand(4, 3, 32, 32, generator=rng()), [None]
    for name in TRANSFORMS:
        monkeypatch.setattr(augment, name, recorded(name))
    model.views(originals, rng(1))
    return done


def same_transforms(done, expected):
    assert [[name for name, _ in view] for view in done] == [[name for name, _ in view] for view in expected]
    for view, wanted in zip(done, expected, strict=True):
        for (name, settings), (_, known) in zip(view, wanted, strict=True):
            assert settings == pytest.approx(known) if name == "colour_jitter_" else settings == known, name


@pytest.mark.parametrize(
    ("technique", "option", "transform", "setting"),
    [
        ("simclr", {"strength": 0.25}, "colour_jitter_", {"brightness": 0.2, "saturation": 0.2, "hue": 0.05}),
        ("simclr", {"grey": 0.7}, "grey_", {"p": 0.7}),
        ("simclr", {"blur": 0.3}, "blur_", {"p": 0.3}),
        ("moco_v2", {"grey": 0.7}, "grey_", {"p": 0.7}),
        ("moco_v2", {"blur": 0.3}, "blur_", {"p": 0.3}),
        ("moco_v2", {"area": 0.4}, "resized_crop", {"area": (0.4, 1.0)}),
        ("byol", {"area": 0.4}, "resized_crop", {"area": (0.4, 1.0)}),
        ("split_brain", {"area": 0.4}, "resized_crop", {"area": (0.4, 1.0)}),
        ("rotnet", {"padding": 0.25}, "padded_crop", {"padding": 0.25}),
    ],
)
def test_an_option_reaches_its_transform(technique, option, transform, setting, monkeypatch):
    seen = []
    whole = getattr(augment, transform)
    monkeypatch.setattr(augment, transform, lambda *given, **named: seen.append(named) or whole(*given, **named))
    catalog.technique(technique)(resnet, **option).views(torch.rand(4, 3, 32, 32, generator=rng()), rng(1))
    assert seen
    for named in seen:
        assert all(named[key] == pytest.approx(value) for key, value in setting.items())
