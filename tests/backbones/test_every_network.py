"""Every small classification network of timm and torchvision gives features, or is refused by an error of ours.

Heavy, a test for each family: `pytest -m heavy tests/backbones/test_every_network.py -k ghostnet -rP` prints what is
refused and why.
"""

import pytest
import timm
import torch
import torchvision

from lilliput.backbones import check_image_size, library_backbone
from lilliput.errors import BadSetting
from tests.backbones.conftest import pictures
from tests.conftest import heavy

MOST = 15_000_000  # parameters, the classifier's too
FAMILIES = [*(f"timm/{module}" for module in timm.list_modules()), "torchvision"]


def names_of(family):
    library, _, module = family.partition("/")
    if library == "torchvision":
        return [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    return [f"timm/{name}" for name in timm.list_models(module=module)]


def parameters(name):
    """How many the stock network has; no memory is taken for them where the library allows it."""
    library, _, network = name.partition("/")
    if library == "torchvision":
        return torchvision.models.get_model_weights(network).DEFAULT.meta["num_params"]
    try:
        with torch.device("meta"):
            net = timm.create_model(network, pretrained=False)
    except (NotImplementedError, RuntimeError):  # it calculates with numbers of its own
        net = timm.create_model(network, pretrained=False)
    return sum(values.numel() for values in net.parameters())


def features_of(name):
    """[2, D] of images of 64 pixels; BadSetting where the network cannot be taken, or not at that size."""
    backbone = library_backbone(name).eval()
    check_image_size(backbone, 64)
    with torch.no_grad():
        features = backbone(pictures(2, 64))
    assert features.shape == (2, backbone.dim)
    return features


@pytest.mark.filterwarnings("ignore")  # of the libraries' own
@pytest.mark.parametrize("family", heavy(*FAMILIES))
def test_a_small_network_gives_features_or_is_refused_by_an_error_of_ours(family):
    for name in names_of(family):
        if parameters(name) < MOST:
            try:
                assert features_of(name).isfinite().all(), name
            except BadSetting as reason:
                assert name in str(reason) and "\n" not in str(reason)
                print(f"{name} is refused: {reason}")
