import pytest
import torch

from lilliput.backbones import library_backbone
from lilliput.errors import BadSetting
from tests.backbones.conftest import pictures


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/efficientnet_lite0", "torchvision/mobilenet_v3_small"])
def test_stages_are_found_at_every_halving(name):
    sizes = [maps.shape[-1] for maps in library_backbone(name).stages(pictures())]
    assert sizes == [32, 16, 8, 4, 2]


def test_tokens_become_maps_in_the_order_of_their_patches():
    backbone = library_backbone("timm/test_vit")
    tokens = torch.cat([torch.full((1, 1, 2), -1.0), torch.arange(12.0).view(1, 6, 2)[:, [0, 1, 2, 3]]], dim=1)
    backbone.net.forward_features = lambda _: tokens
    maps = backbone.maps(pictures(1))
    assert maps[0, 0].tolist() == [[0, 2], [4, 6]]


def test_a_network_whose_maps_are_out_of_reach_says_where_to_look():
    with pytest.raises(BadSetting, match=r"torchvision/densenet121 .* timm/"):
        library_backbone("torchvision/densenet121")
