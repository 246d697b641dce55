import copy
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn

from lilliput.backbones import check_image_size, library_backbone
from lilliput.errors import BadSetting, UnknownName
from tests.backbones.conftest import pictures


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/mobilenetv3_small_050", "timm/resnext26ts"])
def test_common_networks_of_the_libraries_are_narrowed(name):
    whole, half = library_backbone(name), library_backbone(name, width=0.5)
    assert half.dim == whole.dim / 2
    assert half(pictures(4)).shape == (4, half.dim)
    count = [sum(weight.numel() for weight in backbone.parameters()) for backbone in (whole, half)]
    assert count[1] < 0.3 * count[0]


def test_a_network_that_cannot_be_narrowed_says_so():
    with pytest.raises(BadSetting, match=r"timm/test_vit cannot be built at width 0\.5"):
        library_backbone("timm/test_vit", width=0.5)


@pytest.mark.parametrize(
    ("name", "pooled"),
    [
        ("resnet10t", lambda net, x: net.forward_head(net.forward_features(x), pre_logits=True)),
        ("mambaout_femto", lambda net, x: net.forward_features(x).mean((1, 2))),  # its maps have the channels last
        ("mobilenetv3_small_050", lambda net, x: net.forward_features(x).mean((2, 3))),  # its head has a layer more
        ("test_vit", lambda net, x: net.forward_features(x)[:, 1:].mean(1)),  # patches without the class token
    ],
)
def test_timms_features_are_its_own(name, pooled):
    backbone = library_backbone(f"timm/{name}").eval()
    stock = timm.create_model(name, pretrained=False).eval()
    missing, unexpected = stock.load_state_dict(backbone.net.state_dict(), strict=False)
    assert missing and not unexpected
    assert all(key.startswith(("fc.", "head.", "classifier.", "conv_head.")) for key in missing)
    images = pictures(size=96)
    with torch.no_grad():
        expected = pooled(stock, (images - backbone.mean) / backbone.std)
        torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-5)
    assert backbone.dim == expected.shape[1]


@pytest.mark.parametrize("name", ["resnet34", "mnasnet0_5", "swin_t", "mobilenet_v3_small"])
def test_torchvisions_features_are_what_it_pools(name):
    backbone = library_backbone(f"torchvision/{name}").eval()
    stock = torchvision.models.get_model(name, weights=None).eval()
    missing, unexpected = stock.load_state_dict(backbone.net.state_dict(), strict=False)
    assert missing and not unexpected and all(key.startswith(("fc.", "head.", "classifier.")) for key in missing)
    head, seen = next(getattr(stock, head) for head in ("fc", "head", "classifier") if hasattr(stock, head)), []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = pictures()
    with torch.no_grad():
        stock((images - backbone.mean) / backbone.std)
        torch.testing.assert_close(backbone(images), seen[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "torchvision/googlenet"])
def test_a_gradient_reaches_every_parameter_that_is_kept(name):
    backbone = library_backbone(name)
    backbone(pictures(4)).square().sum().backward()
    assert all(weight.grad is not None for weight in backbone.parameters())


def test_a_transformer_takes_other_sizes_than_its_own():
    backbone = library_backbone("timm/vit_tiny_patch16_224")
    assert backbone.maps(pictures(size=96)).shape == (2, 192, 6, 6)
    with pytest.raises(BadSetting, match="cannot take images of 90 pixels; the next size that it takes is 96"):
        check_image_size(backbone, 90)


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit"])
def test_a_network_by_name_can_be_pickled_for_another_process(name):
    backbone, images = library_backbone(name).eval(), pictures()
    assert torch.equal(pickle.loads(pickle.dumps(backbone))(images), backbone(images))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timm/resnet1t", "timm/resnet10t"),
        ("torchvision/resnet43", "torchvision/resnet34"),
        ("resnet34", "timm/resnet34 or torchvision/resnet34"),
        ("timm/hf-hub:timm/resnet18", "timm/resnet18"),  # would be fetched
        ("torchvision/fasterrcnn_resnet50_fpn", "torchvision/"),  # not a classification network
        ("xyzzy", "timm/NAME"),
    ],
)
def test_an_unknown_name_is_met_with_a_near_one(name, hint):
    with pytest.raises(UnknownName, match="no network ") as caught:
        library_backbone(name)
    assert hint in str(caught.value)


# the strides of every stage, and the layers whose strides the stems take out, in order
STEMS = {
    "timm/mobilenetv3_small_100": ((2, 4, 8, 16, 32), ["conv_stem", "blocks.0.0.conv_dw"]),
    "timm/resnet10t": ((2, 4, 8, 16, 32), ["conv1.0", "maxpool"]),
    "timm/densenet121": ((2, 4, 8, 16, 32), ["features.conv0", "features.pool0"]),
    "timm/regnetx_002": ((2, 4, 8, 16, 32), ["stem.conv", "s1.b1.conv2.conv s1.b1.downsample.conv"]),
    "torchvision/vgg11_bn": ((1, 2, 4, 8, 32), ["features.3", "features.7"]),
}


@pytest.mark.parametrize("name", STEMS)
def test_strides_told_are_those_of_the_maps(name):
    backbone = library_backbone(name).eval()
    with torch.no_grad():
        maps = backbone.stages(pictures(1, 64))
    assert backbone.strides == STEMS[name][0] == tuple(64 // m.shape[-1] for m in maps)
    assert backbone.dims == tuple(m.shape[1] for m in maps)


@pytest.mark.parametrize("stem", ["half", "quarter"])
@pytest.mark.parametrize("name", STEMS)
def test_a_stem_is_the_librarys_network_with_other_strides(name, stem):
    strides, layers = STEMS[name]
    torch.manual_seed(0)
    by_hand = library_backbone(name)
    torch.manual_seed(0)
    backbone = library_backbone(name, stem=stem)
    halvings = 1 if stem == "half" else 2
    for layer in " ".join(layers[:halvings]).split():
        strided = by_hand.net.get_submodule(layer)
        if isinstance(strided, nn.MaxPool2d) and strided.kernel_size == 2:
            strided.forward = lambda maps: maps
        strided.stride = (1, 1)
    assert backbone.strides == tuple(max(1, stride // 2**halvings) for stride in strides)
    assert backbone.dims == by_hand.dims
    by_hand.load_state_dict(backbone.state_dict())
    images = pictures(1, 33)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(images), by_hand.eval()(images))


@pytest.mark.parametrize("stem", ["half", "quarter"])
@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/mobilenetv3_small_100"])
def test_a_stem_goes_with_other_channels_and_widths(name, stem):
    whole, narrow = library_backbone(name), library_backbone(name, channels=2, width=0.5, stem=stem)
    assert narrow.dim == whole.dim / 2 and narrow.channels == 2
    assert narrow.stride == whole.stride // (2 if stem == "half" else 4)
    assert narrow(pictures(4, 32, channels=2)).shape == (4, narrow.dim)


@pytest.mark.parametrize(
    ("name", "stem", "reason"),
    [
        ("timm/convnext_atto", "half", "its layer stem.0 has stride 4"),
        ("timm/test_vit", "half", "its layer patch_embed.proj has stride 16"),
        ("timm/resnetblur18", "quarter", "what halves its maps for the second time is neither"),
    ],
)
def test_a_network_of_an_odd_stem_is_refused_by_name(name, stem, reason):
    with pytest.raises(BadSetting, match=f"{name} cannot be built with stem '{stem}': {reason}"):
        library_backbone(name, stem=stem)


def test_a_network_whose_first_layers_are_plain_takes_half_a_stem_before_a_low_pass():
    assert library_backbone("timm/resnetblur18", stem="half").stride == 16


def test_a_copy_and_a_pickle_keep_their_stem():
    backbone, images = library_backbone("timm/test_resnet", stem="half").eval(), pictures()
    for again in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert torch.equal(again(images), backbone(images)) and again.strides == backbone.strides
