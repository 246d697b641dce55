"""What is exported gives what the encoder gave, of torch's own layers alone."""

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.backbones import plain
from lilliput.deploy.network import Deployed, Opened, head_of
from lilliput.deploy.parity import check, parity
from lilliput.errors import BadSetting
from lilliput.probes.linear import classifier
from tests.conftest import rng


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2", "repvgg_a0"])
def test_a_plain_network_has_the_same_features_and_no_convolution_of_ours(name):
    network = catalog.backbone_builder(name, width=0.5)()
    images = torch.rand(8, 3, 32, 32, generator=rng())
    network(images)  # statistics of its own
    network.eval()
    simple = plain(network)
    torch.testing.assert_close(simple(images), network(images), rtol=1e-4, atol=1e-5)
    kinds = {type(layer) for layer in simple.modules() if isinstance(layer, nn.Conv2d)}
    assert kinds == {nn.Conv2d} and {type(layer) for layer in network.modules()} - kinds > kinds - {nn.Conv2d}
    assert not any(weight.requires_grad for weight in simple.parameters())
    assert all(weight.requires_grad for weight in network.parameters())  # the one that was given is as it was


def test_the_probe_as_one_layer_gives_the_probes_scores():
    features = 3 + torch.randn(60, 5, generator=rng()) * torch.tensor([1e-3, 1.0, 10.0, 1e3, 0.0])
    classify, _ = classifier(features, torch.arange(60) % 3, 3, decay=1e-2)
    torch.testing.assert_close(head_of(classify)(features), classify(features), rtol=1e-4, atol=1e-4)


def test_bytes_and_floats_of_the_same_pixels_give_the_same():
    pixels = torch.randint(0, 256, (2, 3, 4, 4), generator=rng(), dtype=torch.uint8)
    encoder = nn.Flatten()
    by_bytes = Opened(Deployed(encoder, uint8=True), uint8=True)(pixels.float() / 255)
    assert torch.equal(by_bytes, Deployed(encoder)(pixels.float() / 255))
    assert torch.equal(Deployed(encoder, uint8=True)(pixels), by_bytes)


def test_a_difference_is_measured_and_too_large_a_one_refused():
    ours = torch.tensor([[1.0, 4.0], [2.0, 0.0]])
    found = parity(ours, ours + torch.tensor([[0.0, 0.002], [0.0, 0.0]]), (torch.tensor([1, 0]), torch.tensor([1, 1])))
    assert found.largest_difference == pytest.approx(0.002, rel=1e-3) and found.agreement == 0.5
    assert check(found, "file") is found and "the same class for 50.0%" in str(found)
    for wrong in (ours + 0.01, ours * torch.nan):
        with pytest.raises(BadSetting, match="file does not give what the network gives: largest difference"):
            check(parity(ours, wrong), "file")
