import copy
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn

from lilliput.backbones import _library, check_image_size, library_backbone
from lilliput.errors import BadSetting, UnknownName
from tests.backbones.conftest import pictures
from tests.conftest import heavy


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


HEADS = ("fc.", "head.", "classifier.", "conv_head.")  # what comes after the pooling, by the libraries' names
STARTING_AS_LESS = [  # networks whose blocks, or whose norms, are next to nothing before training
    "timm/resnet18",
    "timm/seresnet18",
    "timm/starnet_s050",
    "timm/mobilenetv3_small_050",
    "torchvision/shufflenet_v2_x1_0",
]
OTHERS = [
    "timm/resnet50",
    "timm/densenet121",
    "timm/dla34",
    "timm/regnety_002",
    "timm/nf_resnet26",
    "timm/convnext_atto",
    "timm/ghostnetv2_100",
    "timm/repvgg_a0",
    "timm/mambaout_femto",
    "timm/edgenext_xx_small",
    "timm/efficientvit_b0",
    "timm/xcit_nano_12_p16_224",
    "timm/vit_tiny_patch16_224",
    "torchvision/convnext_tiny",
    "torchvision/efficientnet_b0",
    "torchvision/regnet_x_400mf",
    "torchvision/vgg11_bn",
    "torchvision/swin_t",
]


def stock_network(name):
    library, _, network = name.partition("/")
    if library == "torchvision":
        return torchvision.models.get_model(network, weights=None)
    return timm.create_model(network, pretrained=False)


def with_weights_of_a_trained_one(net):
    """In place: no branch is zero and no norm the identity any more."""
    for values in net.parameters():
        values.data += 0.1 * torch.randn_like(values)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    return net.eval()


def what_stock_pools(stock, images):
    """[B, D]: the mean over the places of what a stock network of either library pools."""
    if hasattr(stock, "forward_features"):
        maps = stock.forward_features(images)
        if maps.ndim == 3:
            return maps[:, stock.num_prefix_tokens if hasattr(stock, "num_prefix_tokens") else 1 :].mean(1)
        return maps.mean((2, 3) if maps.shape[2] == maps.shape[3] else (1, 2))
    head, seen = next(getattr(stock, head) for head in ("fc", "head", "classifier") if hasattr(stock, head)), []
    pool = getattr(stock, "avgpool", head)
    pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stock(images)
    return seen[0].mean((2, 3)) if seen[0].ndim == 4 else seen[0]


@pytest.mark.parametrize("name", STARTING_AS_LESS + heavy(*OTHERS))
def test_nothing_but_the_classifier_is_taken_off(name):
    """Blocks that change nothing before training were once taken for the end of the network, and cut off with it."""
    if name.startswith("timm/") and not timm.is_model(name.removeprefix("timm/")):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    backbone, stock = library_backbone(name).eval(), with_weights_of_a_trained_one(stock_network(name))
    due = {key: value.shape for key, value in stock.state_dict().items() if not key.startswith(HEADS)}
    kept = {key: value.shape for key, value in backbone.net.state_dict().items()}
    assert {key: shape for key, shape in kept.items() if not key.startswith(HEADS)} == due
    missing, unexpected = stock.load_state_dict(backbone.net.state_dict(), strict=False)
    assert missing and not unexpected and all(key.startswith(HEADS) for key in missing)
    with_weights_of_a_trained_one(stock)
    backbone.net.load_state_dict({key: value for key, value in stock.state_dict().items() if key in kept})
    images = pictures(size=224 if "224" in name else 96)
    with torch.no_grad():
        expected = what_stock_pools(stock, (images - backbone.mean) / backbone.std)
        ours = backbone(images)
    assert expected.isfinite().all()
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit"])
def test_a_network_by_name_starts_as_its_library_starts_it(name):
    """To look for its parts draws nothing and changes nothing: not the weights, not the statistics of batch norm."""
    torch.manual_seed(3)
    ours, drawn_after_ours = library_backbone(name).net.state_dict(), torch.rand(1)
    torch.manual_seed(3)
    stock = timm.create_model(name.removeprefix("timm/"), pretrained=False).state_dict()
    assert torch.equal(torch.rand(1), drawn_after_ours)
    assert ours and all(torch.equal(value, stock[key]) for key, value in ours.items())


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
        ("timm/resnet18.no_such_tag", "timm/resnet18"),
    ],
)
def test_an_unknown_name_is_met_with_a_near_one(name, hint):
    with pytest.raises(UnknownName, match="no network ") as caught:
        library_backbone(name)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm/crossvit_tiny_240", "a list"),
        ("timm/coat_tiny", "a list"),
        ("timm/volo_d1_224", "197"),
    ],
)
def test_a_network_that_cannot_be_taken_is_refused_by_name_and_with_the_reason(name, reason):
    """They once ended in tracebacks of AttributeError and RuntimeError."""
    with pytest.raises(BadSetting, match=f"^{name} .*{reason}") as caught:
        library_backbone(name)
    assert "\n" not in str(caught.value)


def test_whatever_a_librarys_network_raises_names_the_network(monkeypatch):
    def odd(*_, **__):
        raise KeyError("no such part\nand more")

    monkeypatch.setattr(timm, "create_model", odd)
    with pytest.raises(BadSetting, match=r"^timm/test_vit cannot be taken .*no such part") as caught:
        library_backbone("timm/test_vit")
    assert "\n" not in str(caught.value)


def test_a_tag_of_trained_weights_is_told_to_be_of_random_ones(monkeypatch):
    said = []
    monkeypatch.setattr(_library, "say", said.append)
    _library._say_random.cache_clear()
    backbones = [library_backbone(name) for name in ("timm/test_resnet.r160_in1k", "timm/test_resnet.r160_in1k")]
    assert len(said) == 1 and "timm/test_resnet.r160_in1k" in said[0] and "random" in said[0]
    assert backbones[0].name == "timm/test_resnet"
    library_backbone("timm/test_resnet")
    assert len(said) == 1


# the strides of every stage, and the layers whose strides the stems take out, in order
STEMS = {
    "timm/mobilenetv3_small_100": ((2, 4, 8, 16, 32), ["conv_stem", "blocks.0.0.conv_dw"]),
    "timm/resnet10t": ((2, 4, 8, 16, 32), ["conv1.0", "maxpool"]),
    "timm/densenet121": ((2, 4, 8, 16, 32), ["features.conv0", "features.pool0"]),
    "timm/regnetx_002": ((2, 4, 8, 16, 32), ["stem.conv", "s1.b1.conv2.conv s1.b1.downsample.conv"]),
    "torchvision/vgg11_bn": ((1, 2, 4, 8, 32), ["features.3", "features.7"]),
}
STEMMED = [*[name for name in STEMS if "vgg" not in name], *heavy("torchvision/vgg11_bn")]  # of 130 million weights


@pytest.mark.parametrize("name", STEMMED)
def test_strides_told_are_those_of_the_maps(name):
    backbone = library_backbone(name).eval()
    with torch.no_grad():
        maps = backbone.stages(pictures(1, 64))
    assert backbone.strides == STEMS[name][0] == tuple(64 // m.shape[-1] for m in maps)
    assert backbone.dims == tuple(m.shape[1] for m in maps)


@pytest.mark.parametrize("stem", ["half", "quarter"])
@pytest.mark.parametrize("name", STEMMED)
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
