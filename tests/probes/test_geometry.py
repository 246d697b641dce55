"""Geometry, of features whose shape is known."""

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.probes import Exam, effective_rank, extract
from lilliput.probes.geometry import geometry
from tests.conftest import CPU


def test_geometry_tells_dead_units_and_features_that_do_not_move(scenes):
    class Half(nn.Module):
        def forward(self, images):
            live = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
            return torch.cat([live, torch.full_like(live, 0.3)], 1)

    class Constant(nn.Module):
        def forward(self, images):
            return torch.ones(len(images), 4)

    half = dict(geometry(Exam(Half(), scenes.train, plan=CPU)))
    assert half["dead_units"] == pytest.approx(0.5) and 1 <= half["effective_rank"] <= 12
    constant = dict(geometry(Exam(Constant(), scenes.train, plan=CPU)))
    assert constant["alignment"] == pytest.approx(0, abs=1e-6) and constant["uniformity"] == pytest.approx(0, abs=1e-5)


def test_crops_of_an_image_differ_in_pixels_and_are_those_of_the_seed(scenes):
    first, again, other = (dict(geometry(Exam(nn.Flatten(), scenes.train, plan=CPU, seed=s))) for s in (0, 0, 1))
    assert 0 < first["alignment"] < 4 and first == again
    assert first["alignment"] != other["alignment"] and first["spread"] == other["spread"]


def test_the_rank_of_many_dimensions_is_not_that_of_the_first_few_hundred_images():
    """It was of 256 images: 537 and 1,199 dimensions read 213 and 245."""
    prepare = catalog.dataset("scenes")
    images = prepare(image_size=32, limit=2, pool_count=2, train_count=600, test_count=300).train
    exam = Exam(nn.Flatten(), images, plan=CPU)
    whole = effective_rank(extract(exam.encoder, images, plan=CPU))
    assert len(images) == 600 and dict(geometry(exam))["effective_rank"] == pytest.approx(whole, rel=1e-3)
