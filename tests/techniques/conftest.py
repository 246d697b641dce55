import pytest
import torch

from lilliput import catalog
from tests.conftest import rng


def resnet(*, channels=3, width=1.0):
    """Narrow, so that tests take seconds."""
    return catalog.backbone_builder("resnet18", width=0.25)(channels=channels, width=width)


@pytest.fixture
def images():
    return torch.rand(8, 3, 32, 32, generator=rng())
