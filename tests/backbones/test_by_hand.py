"""The backbones whose stages are written by hand against their libraries' own networks."""

import copy
import importlib
from itertools import pairwise

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.transforms.functional import normalize

from lilliput.backbones import check_image_size, library_backbone
from lilliput.errors import BadSetting
from tests.backbones.conftest import pictures
from tests.conftest import each_backbone, heavy

STOCK = {
    "resnet18": (torchvision.models.resnet18, 512, "fc.", "torchvision/resnet18"),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 1280, "classifier.", "torchvision/mobilenet_v2"),
    "shufflenet_v2": (torchvision.models.shufflenet_v2_x0_5, 1024, "fc.", "torchvision/shufflenet_v2_x0_5"),
    "squeezenet": (torchvision.models.squeezenet1_1, 512, "classifier.", "torchvision/squeezenet1_1"),
    "efficientnet_lite0": (
        lambda: timm.create_model("efficientnet_lite0", pretrained=False),
        1280,
        "classifier.",
        "timm/efficientnet_lite0",
    ),
    "alexnet": (torchvision.models.alexnet, 256, "classifier.", "torchvision/alexnet"),
    "vgg11_bn": (torchvision.models.vgg11_bn, 512, "classifier.", "torchvision/vgg11_bn"),
    "densenet121": (torchvision.models.densenet121, 1024, "classifier.", "timm/densenet121"),
    "resnet50": (torchvision.models.resnet50, 2048, "fc.", "torchvision/resnet50"),
    "resnet101": (torchvision.models.resnet101, 2048, "fc.", "torchvision/resnet101"),
}
WITHOUT_NORMS = ("alexnet", "squeezenet")
ENDING_IN_A_POOLING = ("alexnet", "vgg11_bn")
every_backbone = pytest.mark.parametrize("name", each_backbone(STOCK))


def fitting(name, count, channels=3):
    """Small images that the stock network takes."""
    return pictures(count, 64 if name == "alexnet" else 48, channels)


def build(name, **options):
    return getattr(importlib.import_module(f"lilliput.backbones.{name}"), name)(**options)


def what_the_classifier_sees(stock, images):
    """The input of the pooling, or of the layer that gives the classes, averaged over places where there are some."""
    classifier = getattr(stock, "avgpool", None)
    if not isinstance(classifier, nn.AdaptiveAvgPool2d):
        classifier = [m for m in stock.modules() if isinstance(m, (nn.Conv2d, nn.Linear))][-1]
    seen = []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    stock(images)
    return seen[0] if seen[0].ndim == 2 else seen[0].mean((2, 3))


@every_backbone
def test_features_are_what_the_librarys_own_classifier_would_see(name):
    make_stock, width, classifier, _ = STOCK[name]
    backbone, stock = build(name), make_stock()
    with torch.no_grad():  # statistics unlike the initial ones, so that their loading is tested too
        backbone(fitting(name, 8))
    missing, unexpected = stock.load_state_dict(backbone.net.state_dict(), strict=False)
    assert missing and all(key.startswith(classifier) for key in missing) and not unexpected

    images = pictures(4, 96)
    with torch.no_grad():
        features = backbone.eval()(images)
        expected = what_the_classifier_sees(
            stock.eval(), normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
    assert features.shape == (4, width) and backbone.dim == width
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", each_backbone(name for name in STOCK if name != "vgg11_bn"))
def test_the_same_seed_draws_the_librarys_own_initial_weights(name):
    make_stock = STOCK[name][0]
    torch.manual_seed(3)
    ours = build(name).net.state_dict()
    torch.manual_seed(3)
    theirs = make_stock().state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@every_backbone
def test_stages_halve_the_resolution_and_end_with_the_maps(name):
    backbone, images = build(name).eval(), pictures(4, 96)
    with torch.no_grad():
        stages, maps = backbone.stages(images), backbone.maps(images)
    assert 4 <= len(stages) <= 6
    assert torch.equal(stages[-1], maps) and maps.shape[1] == backbone.dim
    for larger, smaller in pairwise(stages):
        assert larger.shape[-1] / smaller.shape[-1] == pytest.approx(2, abs=0.5)  # SqueezeNet and AlexNet do not pad


@every_backbone
def test_stages_written_by_hand_are_those_found_by_running_the_network(name):
    by_hand, found = build(name).eval(), library_backbone(STOCK[name][3]).eval()
    found.load_state_dict(by_hand.state_dict())
    images = fitting(name, 4)
    with torch.no_grad():
        ours, theirs = by_hand.stages(images), found.stages(images)
    if name in ENDING_IN_A_POOLING:  # a stage of its own here, so that the maps that literature probes are one too
        del ours[-2]
    pairs = list(zip(ours, theirs, strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@every_backbone
def test_a_gradient_reaches_every_parameter(name):
    backbone = build(name).train()
    backbone(fitting(name, 4)).square().sum().backward()
    assert [key for key, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_backbone
def test_building_and_checking_leave_the_statistics_of_batch_norm_alone(name):
    backbone = build(name)
    check_image_size(backbone, 64)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 7 or name in WITHOUT_NORMS
    assert all(m.num_batches_tracked == 0 and not m.running_mean.any() and m.running_var.eq(1).all() for m in norms)
    assert all(m.training for m in backbone.modules())


@every_backbone
def test_nothing_is_dropped_in_training(name):
    backbone, images = build(name).train(), fitting(name, 4)
    with torch.no_grad():
        assert torch.equal(backbone(images), backbone(images))


@every_backbone
def test_a_copy_is_independent(name):
    backbone, images = build(name).eval(), fitting(name, 4)
    before = backbone(images).detach()
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(0.1)
    assert torch.equal(backbone(images), before)
    assert not torch.allclose(twin(images), before)


@every_backbone
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_half_the_width_and_other_channels_give_half_the_features(name, channels):
    backbone = build(name, channels=channels, width=0.5)
    features = backbone(fitting(name, 4, channels))
    assert features.shape == (4, STOCK[name][1] // 2) and backbone.dim == STOCK[name][1] // 2
    assert (0.01 if name == "alexnet" else 0.05) < features.std() < 10
    features.square().sum().backward()
    assert all(weight.grad is not None for weight in backbone.parameters())


DEEP = ["densenet121", "resnet50", "resnet101"]  # their layers multiply a rounding, where batch norm sees few images


def told_apart(network, images):
    """Features of a plain run and of a channels-last one, and the least cosine of the plain with bf16's."""
    with torch.no_grad():
        plain = network(images)
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        last = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = network(images)
    return plain, last, torch.cosine_similarity(coarse.float(), plain).min()


@pytest.mark.parametrize("name", each_backbone(name for name in STOCK if name not in DEEP))
def test_channels_last_and_bfloat16_give_nearly_the_same_features(name):
    plain, last, alike = told_apart(build(name), fitting(name, 4))
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-3)
    assert alike > 0.95


@pytest.mark.parametrize("name", heavy(*DEEP))
def test_a_deep_network_rounds_as_the_librarys_own_does(name):
    backbone, stock, images = build(name), STOCK[name][0](), fitting(name, 4)
    stock.load_state_dict(backbone.net.state_dict(), strict=False)
    setattr(stock, STOCK[name][2].rstrip("."), nn.Identity())
    plain, last, alike = told_apart(backbone, images)
    theirs, theirs_last, theirs_alike = told_apart(
        stock, normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    assert (last - plain).abs().max() < 1.5 * (theirs_last - theirs).abs().max()
    assert alike > theirs_alike - 0.01
    plain, last, alike = told_apart(backbone.eval(), images)
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-3)
    assert alike > 0.95


def test_a_replaced_layer_is_used():
    backbone, images = build("resnet18").eval(), pictures(4, 48)
    backbone.net.layer4 = nn.AvgPool2d(2)
    assert backbone(images).shape == (4, 256)


def test_squeezenet_says_which_size_it_can_take():
    with pytest.raises(BadSetting, match=r"squeezenet cannot take images of 8 pixels; the next .* is 17"):
        check_image_size(build("squeezenet"), 8)
    check_image_size(build("squeezenet"), 17)


# the stock strides of every stage, and the layers whose strides the stems take out, in order
STRIDES = {
    "resnet18": ((2, 4, 8, 16, 32), ["conv1", "maxpool"]),
    "mobilenet_v2": ((2, 4, 8, 16, 32), ["features.0.0", "features.2.conv.1.0"]),
    "shufflenet_v2": ((4, 8, 16, 32), ["conv1.0", "maxpool"]),
    "squeezenet": ((2, 4, 8, 16), ["features.0", "features.2"]),
    "efficientnet_lite0": ((2, 4, 8, 16, 32), ["conv_stem", "blocks.1.0.conv_dw"]),
    "vgg11_bn": ((1, 2, 4, 8, 16, 32), ["features.3", "features.7"]),
    "densenet121": ((2, 4, 8, 16, 32), ["features.conv0", "features.pool0"]),
    "resnet50": ((2, 4, 8, 16, 32), ["conv1", "maxpool"]),
    "resnet101": ((2, 4, 8, 16, 32), ["conv1", "maxpool"]),
}
each_with_stems = pytest.mark.parametrize("name", each_backbone(STRIDES))
every_stem = pytest.mark.parametrize(("stem", "halvings"), [("stock", 0), ("half", 1), ("quarter", 2)])


@every_stem
@each_with_stems
def test_the_stem_divides_the_strides_and_the_maps_grow_as_told(name, stem, halvings):
    backbone = build(name, stem=stem).eval()
    assert backbone.strides == tuple(max(1, stride // 2**halvings) for stride in STRIDES[name][0])
    assert (backbone.dim, backbone.stride) == (backbone.dims[-1], backbone.strides[-1])
    with torch.no_grad():
        small, large = backbone.stages(pictures(1, 64)), backbone.stages(pictures(1, 128))
    assert backbone.dims == tuple(maps.shape[1] for maps in small)
    for stride, before, after in zip(backbone.strides, small, large, strict=True):
        assert after.shape[-1] - before.shape[-1] == 64 // stride


@every_stem
@each_with_stems
def test_a_stem_is_the_librarys_own_network_with_strides_of_one(name, stem, halvings):
    make_stock = STOCK[name][0]
    torch.manual_seed(3)
    backbone = build(name, stem=stem)
    torch.manual_seed(3)
    stock = make_stock()
    weights = backbone.net.state_dict()
    if name == "vgg11_bn":  # its classifier, which goes, takes no draws: the same distribution by other numbers
        stock.load_state_dict(weights, strict=False)
    assert all(torch.equal(value, stock.state_dict()[key]) for key, value in weights.items())
    for layer in STRIDES[name][1][:halvings]:
        if name == "vgg11_bn":  # a pooling of two by two, which goes
            stock.set_submodule(layer, nn.Identity())
        else:
            stock.get_submodule(layer).stride = (1, 1)
    images = pictures(2, 35)
    with torch.no_grad():
        features = backbone.eval()(images)
        expected = what_the_classifier_sees(
            stock.eval(), normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stem", "side"), [("stock", 1), ("half", 2), ("quarter", 4)])
def test_shufflenets_maps_of_32_pixels_are_no_single_place_with_another_stem(stem, side):
    assert build("shufflenet_v2", stem=stem).maps(pictures(2, 32)).shape[2:] == (side, side)


@pytest.mark.parametrize("stem", ["half", "quarter"])
@each_with_stems
def test_a_stem_goes_with_half_the_width_other_channels_and_odd_sizes(name, stem):
    backbone = build(name, channels=2, width=0.5, stem=stem)
    check_image_size(backbone, 29)
    features = backbone(pictures(4, 29, 2))
    assert features.shape == (4, STOCK[name][1] // 2)
    features.square().sum().backward()
    assert all(weight.grad is not None for weight in backbone.parameters())
