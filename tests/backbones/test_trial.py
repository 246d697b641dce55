import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.backbones import _trial
from lilliput.backbones._trial import Geometry, TrialFailed, at_fitting_size, measure, watching
from tests.backbones.conftest import pictures


def geometry(*layers):
    net = nn.Sequential(*layers)
    return measure(net, lambda images: [net(images)], 3)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_stride_is_measured_whatever_the_padding(stride, padding):
    assert geometry(nn.Conv2d(3, 5, 5, stride, padding)) == Geometry((5,), (stride,))


def test_a_network_of_one_size_is_measured_at_it():
    class OfOneSize(nn.Module):
        pretrained_cfg = {"input_size": (3, 56, 56)}  # noqa: RUF012

        def forward(self, images):
            if images.shape[-1] != 56:
                raise ValueError("56 pixels or none")
            return images[..., ::14, ::14]

    net = OfOneSize()
    assert measure(net, lambda images: [net(images)], 3) == Geometry((3,), (14,))


def test_a_network_that_takes_nothing_says_why():
    with pytest.raises(TrialFailed, match=r"^Given groups=1, weight of size"):
        at_fitting_size(nn.Identity(), lambda size: nn.Conv2d(4, 4, 1)(pictures(size=size)))


def test_a_measurement_leaves_the_statistics_of_batch_norm_and_the_draws_alone():
    norm, state = nn.BatchNorm2d(3), torch.random.get_rng_state()
    geometry(norm)
    assert norm.num_batches_tracked == 0 and norm.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_watching_ends_with_its_block():
    net, seen = nn.Sequential(nn.Identity()), []
    with watching({"first": net[0]}, lambda name, maps: seen.append((name, maps.shape[-1]))):
        net(pictures(size=8))
    net(pictures(size=9))
    assert seen == [("first", 8)]


def test_a_network_is_measured_once_and_each_of_its_kinds_has_its_own_geometry(monkeypatch):
    measured = []
    usual = _trial._measured
    monkeypatch.setattr(_trial, "_known", {})
    monkeypatch.setattr(_trial, "_measured", lambda *given: measured.append(1) or usual(*given))
    kinds = [({}, {}), ({"stem": "half"}, {}), ({}, {"channels": 1}), ({}, {"width": 0.5})]

    def built():
        networks = [catalog.backbone_builder("shufflenet_v2", **options)(**ours) for options, ours in kinds]
        return [(network.dims, network.strides) for network in networks]

    first, count = built(), len(measured)
    assert len(set(first)) == 3 and first[0] == first[2] and count == 6  # another stem is measured three times
    assert built() == first and len(measured) == count
