"""Networks without their skips: what is gone, what stays, and that nothing goes round a block."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from lilliput import catalog
from lilliput.backbones import begin_residuals_at_zero
from lilliput.techniques.split_brain import SplitBrain
from lilliput.training.cell import make_cell
from lilliput.training.encoders import load_encoder, save_encoder
from tests.backbones.conftest import pictures
from tests.conftest import heavy

NAMES = ("resnet18", "mobilenet_v2", "resnet50")
every_network = pytest.mark.parametrize("name", NAMES)


def plain(name, **settings):
    return catalog.backbone_builder(name, skips=False)(**settings)


def blocks(backbone):
    """Those that have a skip in the stock network."""
    stock = dict(getattr(torchvision.models, backbone.name.split()[0])(weights=None).named_modules())
    for name, block in backbone.net.named_modules():
        if isinstance(block, BasicBlock | Bottleneck | InvertedResidual) and getattr(
            stock[name], "use_res_connect", True
        ):
            yield block


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", *heavy("resnet50")])
@pytest.mark.parametrize("skips", [False, True])
def test_through_a_block_whose_convolutions_are_zero_no_image_can_be_seen(name, skips):
    """With its skip every block lets them through."""
    whole = catalog.backbone_builder(name, skips=skips)(width=0.25).eval()
    images = pictures(2, 32)
    for number in range(len(list(blocks(whole)))):
        backbone = copy.deepcopy(whole)
        for layer, part in list(blocks(backbone))[number].named_modules():
            if isinstance(part, nn.Conv2d) and "downsample" not in layer:
                nn.init.zeros_(part.weight)
        with torch.no_grad():
            one, other = backbone(images)
        assert torch.equal(one, other) == (not skips), f"block {number}"


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        # the projections of the first blocks of stages: C_in x C_out weights, and two of their norm for each C_out
        ("resnet18", sum(before * after + 2 * after for before, after in [(64, 128), (128, 256), (256, 512)])),
        ("resnet50", sum(a * b + 2 * b for a, b in [(64, 256), (256, 512), (512, 1024), (1024, 2048)])),
        ("mobilenet_v2", 0),
    ],
)
def test_what_is_gone_are_the_projections(name, gone):
    whole, without = catalog.backbone_builder(name)(), plain(name)
    counts = [sum(value.numel() for value in backbone.parameters()) for backbone in (whole, without)]
    assert counts[0] - counts[1] == gone
    lost = set(whole.state_dict()) - set(without.state_dict())
    assert set(without.state_dict()) <= set(whole.state_dict())
    assert all(".downsample." in key for key in lost) and bool(lost) == (gone > 0)
    assert (without.dims, without.strides) == (whole.dims, whole.strides)


def by_the_paper(part, x):
    """A block's layers written out; what is no block as it is."""
    if isinstance(part, InvertedResidual):
        return part.conv(x)
    if not isinstance(part, BasicBlock | Bottleneck):
        return part(x)
    for number in range(1, 4 if isinstance(part, Bottleneck) else 3):
        x = getattr(part, f"bn{number}")(getattr(part, f"conv{number}")(x)).relu()
    return x


@every_network
def test_the_features_are_those_of_the_layers_one_after_the_other(name):
    backbone, images = plain(name, width=0.25).train(), pictures(4)
    with torch.no_grad():
        x = (images - backbone.mean) / backbone.std
        for layer in [layer for stage in backbone.split(backbone.net) for layer in stage]:
            for part in layer if isinstance(layer, nn.Sequential) else [layer]:
                x = by_the_paper(part, x)
        torch.testing.assert_close(backbone(images), x.mean((2, 3)))


@every_network
def test_the_same_seed_draws_the_twins_the_same_weights(name):
    torch.manual_seed(3)
    whole = catalog.backbone_builder(name)().state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(value, whole[key]) for key, value in plain(name).state_dict().items())


@every_network
def test_without_skips_nothing_begins_at_zero(name):
    backbone = plain(name)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    assert begin_residuals_at_zero(backbone) == []
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_gradient_reaches_every_parameter(name):
    backbone = plain(name).train()
    backbone(pictures(4, 48)).square().sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("technique", ["simclr", "split_brain"])
def test_a_saved_twin_comes_back_from_the_option_in_its_header(name, technique, tmp_path):
    cell = make_cell(technique, name, options={"skips": False, "width": 0.5})
    assert cell.recipe.zero_residuals and cell.backbone_options == {"skips": False, "width": 0.5}
    encoder = cell.build().encoder
    images = pictures(4)
    encoder(images)
    header = {"technique": technique, "backbone": name, "backbone_options": cell.backbone_options}
    save_encoder(tmp_path / "encoder_001.safetensors", encoder, header)
    again = load_encoder(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(images), encoder.eval()(images))
    assert not any("downsample" in key for key in again.state_dict())
    zero = [key for key, value in encoder.named_parameters() if key.endswith("weight") and not value.any()]
    assert zero == []


def test_split_brains_halves_have_no_skips_either():
    encoder = SplitBrain.build_encoder(catalog.backbone_builder("resnet18", skips=False))
    for block in [part for part in encoder.modules() if isinstance(part, BasicBlock)]:
        assert block.downsample is None and type(block) is not BasicBlock


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_twin_with_a_name_of_its_own_is_the_option(name):
    torch.manual_seed(0)
    by_option = plain(name).eval()
    torch.manual_seed(0)
    by_name, images = catalog.backbone_builder(f"{name}_plain")().eval(), pictures()
    with torch.no_grad():
        assert torch.equal(by_option(images), by_name(images))
