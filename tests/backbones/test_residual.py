"""Which norms end a residual branch, in networks of both libraries and in ones made by hand."""

import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.backbones import Backbone, begin_residuals_at_zero
from tests.backbones.conftest import in_one_stage, pictures


class Block(nn.Module):
    """Adds a branch to what it is given, or to what another branch makes of it."""

    def __init__(self, other: nn.Module, *, inplace: bool = False):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.other, self.inplace = other, inplace

    def forward(self, x):
        branch = self.norm(self.conv(x))
        if self.inplace:
            branch += self.other(x)
            return branch
        return self.other(x) + branch


def network(*blocks: nn.Module) -> Backbone:
    start = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)]  # a norm's output is given to the first block
    return Backbone(nn.Sequential(*start, *blocks), in_one_stage)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_branch_that_is_added_to_what_it_was_given_begins_at_zero(inplace):
    blocks = [Block(nn.Identity(), inplace=inplace) for _ in range(2)]
    backbone = network(*blocks)
    assert begin_residuals_at_zero(backbone) == ["net.2.norm", "net.3.norm"]
    maps = torch.rand(2, 4, 5, 5)
    for block in blocks:
        torch.testing.assert_close(block(maps.clone()), maps)
    assert torch.equal(backbone.net[1].weight, torch.ones(4))


def test_a_block_with_layers_on_both_branches_stays_as_it_is():
    both = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    assert begin_residuals_at_zero(network(Block(both))) == []
    assert begin_residuals_at_zero(network(Block(nn.BatchNorm2d(4)))) == []


def test_a_norm_without_a_scale_stays_as_it_is():
    block = Block(nn.Identity())
    block.norm = nn.BatchNorm2d(4, affine=False)
    assert begin_residuals_at_zero(network(block)) == []


def ends_of_skips(name):
    """As the library's own blocks say that they have a skip."""
    for module, block in catalog.backbone_builder(name)().named_modules():
        if getattr(block, "use_res_connect", False):
            yield f"{module}.conv.{len(block.conv) - 1}"
        elif getattr(block, "has_skip", False) or getattr(block, "downsample", block) is None:
            yield f"{module}.{'bn3' if hasattr(block, 'bn3') else 'bn2'}"


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0", "timm/mobilenetv3_small_100"])
def test_in_the_libraries_networks_every_skip_is_found_and_no_other_norm(name):
    backbone = catalog.backbone_builder(name)()
    found = begin_residuals_at_zero(backbone)
    assert found == list(ends_of_skips(name)) != []
    modes = {module.training for module in backbone.modules()}
    assert modes == {True}
    zero = {name for name, p in backbone.named_parameters() if "weight" in name and not p.any()}
    assert zero == {f"{name}.weight" for name in found}
    assert backbone(pictures()).isfinite().all()


@pytest.mark.parametrize("name", ["shufflenet_v2", "squeezenet", "timm/repvgg_a0"])
def test_networks_without_such_sums_stay_as_they_are(name):
    backbone = catalog.backbone_builder(name)()
    before = {name: values.clone() for name, values in backbone.state_dict().items()}
    assert begin_residuals_at_zero(backbone) == []
    assert all(torch.equal(values, before[name]) for name, values in backbone.state_dict().items())


@pytest.mark.parametrize("stem", ["stock", "half"])
def test_a_changed_network_has_the_same_skips(stem):
    changed = catalog.backbone_builder("resnet18", stem=stem)(channels=2, width=0.5)
    assert begin_residuals_at_zero(changed) == list(ends_of_skips("resnet18"))
