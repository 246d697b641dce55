"""AlexNet's stems: one layer makes the first two halvings; the rest is tested with the other stock networks."""

import pytest
import torch
import torchvision

from lilliput.backbones import check_image_size
from lilliput.backbones.alexnet import alexnet
from lilliput.errors import BadSetting
from lilliput.system.cost import multiply_adds
from lilliput.training.cell import usual_stem
from tests.backbones.conftest import pictures

STRIDE = {"stock": 4, "half": 2, "quarter": 1}


@pytest.mark.parametrize("stem", STRIDE)
def test_a_stem_is_the_librarys_own_network_with_another_first_stride(stem):
    torch.manual_seed(3)
    backbone = alexnet(stem=stem).eval()
    torch.manual_seed(3)
    stock = torchvision.models.alexnet(weights=None)
    assert all(torch.equal(value, stock.state_dict()[key]) for key, value in backbone.net.state_dict().items())
    stock.features[0].stride = STRIDE[stem]
    assert backbone.strides == tuple(STRIDE[stem] * 2**stage for stage in range(4))
    images = pictures(2, 70)
    with torch.no_grad():
        expected = stock.features((images - backbone.mean) / backbone.std)
        assert torch.equal(backbone.maps(images), expected)


@pytest.mark.parametrize("stem", STRIDE)
def test_the_smallest_image_leaves_each_pooling_three_places(stem):
    """The third pooling takes 3 places; the second has 7 for it, and the first 15, which 14 strides part."""
    smallest = 14 * STRIDE[stem] + 7
    backbone = alexnet(stem=stem).eval()
    assert backbone.maps(pictures(1, smallest)).shape == (1, 256, 1, 1)
    with pytest.raises(
        BadSetting, match=f"alexnet cannot take images of {smallest - 1} pixels; .* takes is {smallest}"
    ):
        check_image_size(backbone, smallest - 1)


def test_images_of_32_pixels_get_the_stem_that_takes_them():
    """The usual one for small images, half, would have refused them."""
    for steps in (1, 1000):
        assert usual_stem("alexnet", 32, steps, {}) == {"stem": "quarter"}
        assert usual_stem("alexnet", 40, steps, {}) == {"stem": "half"}
        assert usual_stem("alexnet", 64, steps, {}) == usual_stem("alexnet", 20, steps, {}) == {}
        assert usual_stem("alexnet", 32, steps, {"stem": "stock"}) == {"stem": "stock"}


def test_no_classifier_is_drawn_and_a_device_that_is_asked_for_is_kept():
    with torch.device("meta"):
        assert {value.device.type for value in alexnet().net.parameters()} == {"meta"}
    counts = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    due = sum(out * taken * side**2 + out for out, taken, side in counts)
    assert sum(value.numel() for value in alexnet().parameters()) == due


def test_multiply_adds_of_64_pixels_by_hand():
    """Places, outputs, inputs and taps of each convolution."""
    layers = [(15, 64, 3, 11), (7, 192, 64, 5), (3, 384, 192, 3), (3, 256, 384, 3), (3, 256, 256, 3)]
    due = sum(side**2 * given * taken * kernel**2 for side, given, taken, kernel in layers)
    assert multiply_adds(alexnet(), 64) == due
