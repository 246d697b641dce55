import copy
import pickle
import socket

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.functional import conv2d

from lilliput.backbones import library_backbone
from lilliput.backbones._backbone import Backbone, check_image_size, evaluating
from lilliput.backbones._surgery import narrow, replace_input, silence_dropout
from lilliput.errors import BadSetting, UnknownName


@pytest.fixture(autouse=True)
def one_seed_and_one_thread():
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on small images more only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def pictures(count=2, size=64, channels=3):
    return torch.rand(count, channels, size, size)


def in_one_stage(net):
    return [list(net)]


def a_seeing_nothing_network(channels=3):
    """A 1x1 convolution that copies its input."""
    net = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False))
    net[0].weight.data = torch.eye(channels)[..., None, None]
    return net


# Backbone


def test_images_are_normalised_by_imagenets_colours():
    backbone = Backbone(a_seeing_nothing_network(), in_one_stage)
    grey = torch.full((1, 3, 8, 8), 0.5)
    expected = [[(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]]
    torch.testing.assert_close(backbone(grey), torch.tensor(expected))


def test_other_channels_are_centred_at_a_half():
    net = a_seeing_nothing_network()
    backbone = Backbone(net, in_one_stage, channels=2)
    net[0].weight.data = torch.eye(2)[..., None, None]
    images = torch.stack([torch.full((4, 4), 1.0), torch.full((4, 4), 0.25)])[None]
    torch.testing.assert_close(backbone(images), torch.tensor([[2.0, -1.0]]))


def test_the_state_holds_nothing_but_the_librarys_weights():
    assert set(Backbone(a_seeing_nothing_network(), in_one_stage).state_dict()) == {"net.0.weight"}


def test_a_trial_puts_every_module_back_in_its_own_mode():
    net = nn.Sequential(nn.BatchNorm2d(3).eval(), nn.Dropout())
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, False, True]


def test_a_network_that_takes_any_size_is_not_refused():
    check_image_size(library_backbone("timm/test_resnet"), 9)


def test_all_dropout_is_silenced():
    net = nn.Sequential(
        nn.Dropout(0.5), nn.Dropout2d(0.3), timm.layers.DropPath(0.4), torchvision.ops.StochasticDepth(0.2, "row")
    )
    silence_dropout(net)
    images = pictures()
    assert torch.equal(net.train()(images), images)


# Width


def test_narrowing_keeps_the_first_channels_and_enlarges_them_by_the_lost_inputs():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))
    before = copy.deepcopy(net)
    narrow(net, 0.25)
    assert torch.equal(net[0].weight, before[0].weight[:2])  # still sees all of the image
    torch.testing.assert_close(net[1].weight, before[1].weight[:4, :2] * 2)  # a quarter of the inputs
    assert torch.equal(net[1].bias, before[1].bias[:4])
    assert net[2].num_features == 4 == len(net[2].running_var) == len(net[2].weight)


def test_a_narrow_depthwise_convolution_stays_depthwise():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8))
    before = net[1].weight.detach().clone()
    narrow(net, 0.5)
    assert net[1].groups == 4
    assert torch.equal(net[1].weight, before[:4])
    assert net(pictures()).shape[1] == 4


def test_groups_keep_their_width_and_become_fewer():
    net = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, groups=8))
    narrow(net, 0.5)
    assert net[1].groups == 4 and net[1].weight.shape[1] == 4


def test_layer_and_group_norms_are_narrowed():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Flatten(2), nn.Linear(16, 6), nn.LayerNorm(6))
    narrow(net, 0.5)
    assert (net[1].num_channels, net[3].in_features, net[4].normalized_shape) == (4, 8, (3,))


def test_a_narrow_network_without_normalisation_speaks_as_loudly():
    """SqueezeNet: sums over half the inputs would shrink by sqrt(2) in each of 16 layers in a row."""
    images = torch.randn(8, 3, 64, 64)

    def loudness(width):
        net = torchvision.models.squeezenet1_1(weights=None).features
        if width != 1:
            narrow(net, width)
        with torch.no_grad():
            return net(images).square().mean().sqrt().log()

    whole, half = (torch.stack([loudness(width) for _ in range(6)]).mean() for width in (1.0, 0.5))
    assert abs(half - whole) < 1  # a factor of e; without the gain it is hundreds


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


@pytest.mark.parametrize("width", [0, -1, 1.5])
def test_a_width_outside_0_to_1_is_refused(width):
    with pytest.raises(BadSetting, match=f"width {width} "):
        narrow(nn.Sequential(nn.Conv2d(3, 8, 1)), width)


# Channels


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_a_new_input_gives_sums_of_the_same_size(channels):
    net = nn.Sequential(nn.Conv2d(3, 256, 3, bias=False))
    nn.init.normal_(net[0].weight, std=0.7)
    before = conv2d(torch.randn(4, 3, 32, 32), net[0].weight).std()
    replace_input(net, channels)
    assert net(torch.randn(4, channels, 32, 32)).std().item() == pytest.approx(before.item(), rel=0.15)


# Networks by name


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


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/efficientnet_lite0", "torchvision/mobilenet_v3_small"])
def test_stages_are_found_at_every_halving(name):
    sizes = [maps.shape[-1] for maps in library_backbone(name).stages(pictures())]
    assert sizes == [32, 16, 8, 4, 2]


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "torchvision/googlenet"])
def test_a_gradient_reaches_every_parameter_that_is_kept(name):
    backbone = library_backbone(name)
    backbone(pictures(4)).square().sum().backward()
    assert all(weight.grad is not None for weight in backbone.parameters())


def test_tokens_become_maps_in_the_order_of_their_patches():
    backbone = library_backbone("timm/test_vit")
    tokens = torch.cat([torch.full((1, 1, 2), -1.0), torch.arange(12.0).view(1, 6, 2)[:, [0, 1, 2, 3]]], dim=1)
    backbone.net.forward_features = lambda _: tokens
    maps = backbone.maps(pictures(1))
    assert maps[0, 0].tolist() == [[0, 2], [4, 6]]


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


def test_a_network_whose_maps_are_out_of_reach_says_where_to_look():
    with pytest.raises(BadSetting, match=r"torchvision/densenet121 .* timm/"):
        library_backbone("torchvision/densenet121")
