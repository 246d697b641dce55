import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.functional import conv2d

from lilliput.backbones._surgery import entrances, narrow, replace_input, set_stem, silence_dropout
from lilliput.errors import BadSetting
from tests.backbones.conftest import in_one_stage, pictures


def test_all_dropout_is_silenced():
    net = nn.Sequential(
        nn.Dropout(0.5), nn.Dropout2d(0.3), timm.layers.DropPath(0.4), torchvision.ops.StochasticDepth(0.2, "row")
    )
    silence_dropout(net)
    images = pictures()
    assert torch.equal(net.train()(images), images)


def test_narrowing_keeps_the_first_channels_and_enlarges_them_by_the_lost_inputs():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))
    before = copy.deepcopy(net)
    narrow(net, 0.25, net[:1])
    assert torch.equal(net[0].weight, before[0].weight[:2])  # still sees all of the image
    torch.testing.assert_close(net[1].weight, before[1].weight[:4, :2] * 2)  # a quarter of the inputs
    assert torch.equal(net[1].bias, before[1].bias[:4])
    assert net[2].num_features == 4 == len(net[2].running_var) == len(net[2].weight)


def test_a_narrow_depthwise_convolution_stays_depthwise():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8))
    before = net[1].weight.detach().clone()
    narrow(net, 0.5, net[:1])
    assert net[1].groups == 4
    assert torch.equal(net[1].weight, before[:4])
    assert net(pictures()).shape[1] == 4


def test_groups_keep_their_width_and_become_fewer():
    net = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, groups=8))
    narrow(net, 0.5, net[:1])
    assert net[1].groups == 4 and net[1].weight.shape[1] == 4


def test_layer_and_group_norms_are_narrowed():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Flatten(2), nn.Linear(16, 6), nn.LayerNorm(6))
    narrow(net, 0.5, net[:1])
    assert (net[1].num_channels, net[3].in_features, net[4].normalized_shape) == (4, 8, (3,))


def test_a_narrow_network_without_normalisation_gives_values_of_the_same_size():
    """SqueezeNet: sums over half the inputs would shrink by sqrt(2) in each of 16 layers in a row."""
    images = torch.randn(8, 3, 64, 64)

    def log_size(width):
        net = torchvision.models.squeezenet1_1(weights=None).features
        if width != 1:
            narrow(net, width, net[:1])
        with torch.no_grad():
            return net(images).square().mean().sqrt().log()

    whole, half = (torch.stack([log_size(width) for _ in range(6)]).mean() for width in (1.0, 0.5))
    assert abs(half - whole) < 1  # a factor of e; without the gain it is hundreds


@pytest.mark.parametrize("width", [0, -1, 1.5])
def test_a_width_outside_0_to_1_is_refused(width):
    with pytest.raises(BadSetting, match=f"width {width} "):
        narrow(nn.Sequential(nn.Conv2d(3, 8, 1)), width, [])


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_a_new_input_gives_sums_of_the_same_size(channels):
    net = nn.Sequential(nn.Conv2d(3, 256, 3, bias=False))
    nn.init.normal_(net[0].weight, std=0.7)
    before = conv2d(torch.randn(4, 3, 32, 32), net[0].weight).std()
    replace_input(net[:1], channels)
    assert net(torch.randn(4, channels, 32, 32)).std().item() == pytest.approx(before.item(), rel=0.15)


def test_half_a_stem_takes_the_first_stride_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
    set_stem(net, in_one_stage, "half", name="three")
    assert [layer.stride for layer in net] == [(1, 1), 2, (2, 2)]
    assert net(pictures(size=24)).shape[-1] == 6


def test_a_quarter_of_a_stem_takes_two_strides_and_keeps_the_kernels():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
    before = copy.deepcopy(net.state_dict())
    set_stem(net, in_one_stage, "quarter", name="three")
    assert [layer.stride for layer in net] == [(1, 1), (1, 1), (2, 2)] and net[1].kernel_size == 3
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_layer_of_stride_4_makes_two_halvings():
    """As AlexNet's first."""
    for stem, stride in (("half", (2, 2)), ("quarter", (1, 1))):
        net = nn.Sequential(nn.Conv2d(3, 4, 11, 4, 2), nn.Conv2d(4, 4, 3, 2, 1))
        set_stem(net, in_one_stage, stem, name="two")
        assert [layer.stride for layer in net] == [stride, (2, 2)] and net[0].kernel_size == (11, 11)


def test_of_a_layer_of_stride_4_after_a_halving_a_quarter_takes_one():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 5, 4, 2))
    set_stem(net, in_one_stage, "quarter", name="two")
    assert [layer.stride for layer in net] == [(1, 1), (2, 2)]


class Beside(nn.Module):
    """Two convolutions of the same image, as networks have them whose branches are folded into one later."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 8, 1, 2), nn.Conv2d(3, 8, 3, 2, 1)
        self.inner = nn.Conv2d(8, 3, 1)  # its maps have as many channels as an image, and so has what it is given to
        self.last = nn.Conv2d(3, 8, 1)

    def forward(self, images):
        return self.last(self.inner(self.one(images) + self.other(images)))


def test_every_convolution_that_is_given_the_image_is_found_and_no_other():
    """Networks with branches side by side could be built neither narrower nor for other channels."""
    net = Beside()

    def split(net):
        return [[net]]

    assert entrances(net, split) == [net.one, net.other]
    narrow(net, 0.5, entrances(net, split))
    assert (net.one.weight.shape, net.other.weight.shape) == ((4, 3, 1, 1), (4, 3, 3, 3))
    replace_input([net.one, net.other], 2)
    assert net(pictures(channels=2)).shape[1] == 4


def test_an_image_that_is_changed_before_enters_by_the_first_convolution():
    net = nn.Sequential(nn.PixelUnshuffle(1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    assert entrances(net, in_one_stage) == [net[1]]
    with pytest.raises(BadSetting, match="Sequential has no convolution, so its channels and width are fixed"):
        entrances(nn.Sequential(nn.Flatten()), in_one_stage)


def test_a_layer_scale_is_narrowed():
    scale = timm.layers.LayerScale2d(8)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), scale)
    narrow(net, 0.5, net[:1])
    assert scale.gamma.shape == (4,) and net(pictures()).shape[1] == 4


def test_a_pooling_that_only_pools_goes():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.AvgPool2d(2, 2), nn.Conv2d(4, 4, 1))
    set_stem(net, in_one_stage, "half", name="two")
    assert isinstance(net[1], nn.Identity) and isinstance(net[2], nn.AvgPool2d)


def test_layers_are_taken_in_the_order_in_which_an_image_passes_them():
    """The second conv is registered first."""
    net = nn.ModuleDict({"second": nn.Conv2d(4, 4, 3, 2, 1), "first": nn.Conv2d(3, 4, 3, 2, 1)})
    set_stem(net, lambda net: [[net["first"], net["second"]]], "half", name="crossed")
    assert (net["first"].stride, net["second"].stride) == ((1, 1), (2, 2))


def test_a_shortcut_keeps_the_resolution_of_what_it_goes_around():
    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.body = nn.Conv2d(inputs, outputs, 3, 2, 1)
            self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

        def forward(self, maps):
            return self.body(maps) + self.shortcut(maps)

    net = nn.Sequential(Block(3, 4), Block(4, 4), Block(4, 4))
    set_stem(net, in_one_stage, "quarter", name="residual")
    assert net(pictures(size=32)).shape[-1] == 16


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.Conv2d(3, 4, 4, 4)], "its layer 0 has stride 4"),  # patches
        ([nn.Conv2d(3, 4, 3, 3)], "its layer 0 has stride 3"),
        ([nn.Conv2d(3, 4, 1, 2), nn.Conv2d(4, 4, 1, (2, 1))], r"its layer 1 has stride \(2, 1\)"),
        ([nn.Conv2d(3, 4, 1, 2)], "what halves its maps for the second time is neither a convolution nor a pooling"),
        ([nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 1, 2)], "what halves its maps for the first time"),
    ],
)
def test_an_odd_stem_is_refused_by_the_networks_name(layers, reason):
    with pytest.raises(BadSetting, match=f"odd/net cannot be built with stem 'quarter': .*({reason})"):
        set_stem(nn.Sequential(*layers), in_one_stage, "quarter", name="odd/net")


def test_a_pooling_that_is_used_twice_is_refused():
    pool = nn.MaxPool2d(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), pool, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, 2))
    with pytest.raises(BadSetting, match=r"its strides would be \(2,\), not \(4,\)"):
        set_stem(net, lambda net: [[*net, net[1]]], "half", name="shared")
