import pytest
import torch
from torch import nn

from lilliput.backbones import Backbone, check_image_size, library_backbone
from lilliput.errors import BadSetting
from tests.backbones.conftest import copying_network, in_one_stage, pictures


def test_images_are_normalised_by_imagenets_colours():
    backbone = Backbone(copying_network(), in_one_stage)
    grey = torch.full((1, 3, 8, 8), 0.5)
    expected = [[(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]]
    torch.testing.assert_close(backbone(grey), torch.tensor(expected))


def test_other_channels_are_centred_at_a_half():
    net = copying_network()
    backbone = Backbone(net, in_one_stage, channels=2)
    net[0].weight.data = torch.eye(2)[..., None, None]
    images = torch.stack([torch.full((4, 4), 1.0), torch.full((4, 4), 0.25)])[None]
    torch.testing.assert_close(backbone(images), torch.tensor([[2.0, -1.0]]))


def test_the_state_holds_nothing_but_the_librarys_weights():
    assert set(Backbone(copying_network(), in_one_stage).state_dict()) == {"net.0.weight"}


def three_stages(net):
    return [net[:1], net[1:3], net[3:]]


def a_network_of_three_stages():
    """Strides 2, 4 and 8; the last stage pools without padding."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(2), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 8, 3), nn.AvgPool2d(3, 2)
    )


def test_channels_and_strides_of_every_stage_are_told():
    backbone = Backbone(a_network_of_three_stages(), three_stages)
    assert (backbone.dims, backbone.strides) == ((4, 6, 8), (2, 4, 8))
    assert (backbone.dim, backbone.stride) == (8, 8)


def test_channels_are_those_of_the_narrowed_network():
    assert Backbone(a_network_of_three_stages(), three_stages, width=0.5).dims == (2, 3, 4)


def test_the_stem_divides_the_strides_and_leaves_the_weights():
    stock = Backbone(a_network_of_three_stages(), three_stages)
    torch.manual_seed(0)
    half = Backbone(a_network_of_three_stages(), three_stages, stem="half")
    torch.manual_seed(0)
    quarter = Backbone(a_network_of_three_stages(), three_stages, stem="quarter")
    assert half.strides == (1, 2, 4) and quarter.strides == (1, 1, 2)
    assert stock.dims == half.dims == quarter.dims
    assert all(map(torch.equal, half.parameters(), quarter.parameters()))


@pytest.mark.parametrize("stem", ["", "eighth", None])
def test_an_unknown_stem_is_refused_with_those_that_there_are(stem):
    with pytest.raises(BadSetting, match=f"stem {stem!r} is none of stock, half, quarter"):
        Backbone(a_network_of_three_stages(), three_stages, stem=stem)


def test_a_network_that_takes_any_size_is_not_refused():
    backbone = library_backbone("timm/test_resnet")
    check_image_size(backbone, 9)
    assert backbone.eval()(pictures(size=9)).shape == (2, backbone.dim)


def test_a_size_below_what_the_stem_leaves_is_refused():
    backbone = Backbone(a_network_of_three_stages(), three_stages)
    with pytest.raises(BadSetting, match="sequential cannot take images of 16 pixels; the next size that it takes is"):
        check_image_size(backbone, 16)
    shallow = Backbone(a_network_of_three_stages(), three_stages, stem="quarter")
    check_image_size(shallow, 16)
    assert shallow.maps(pictures(size=16)).shape[-1] == 6
