"""The weight gradient by taps against autograd through torch's own convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput import catalog
from lilliput.backbones._depthwise import DepthwiseConv2d, quicken_depthwise


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "kernel"), [(1, 3), (2, 3), (1, 5), (2, 5), (3, 5), (6, 5), (7, 5), (12, 7)])
def test_gradients_equal_those_of_the_plain_convolution(side, kernel, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False)
    quick = nn.Sequential(nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False))
    quick[0].load_state_dict(conv.state_dict())
    quicken_depthwise(quick)
    assert isinstance(quick[0], DepthwiseConv2d)
    maps = torch.randn(4, 8, side, side)
    assert quick[0]._is_slow(maps)
    for_plain, for_ours = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    plain, ours = conv(for_plain), quick(for_ours)
    assert torch.equal(plain, ours)
    weight = torch.randn_like(plain)
    (plain * weight).sum().backward()
    (ours * weight).sum().backward()
    torch.testing.assert_close(for_ours.grad, for_plain.grad)
    torch.testing.assert_close(quick[0].weight.grad, conv.weight.grad, rtol=1e-4, atol=1e-4)


def test_a_case_by_hand():
    """One pixel under a 3 x 3 kernel: only the middle tap ever meets it."""
    conv = nn.Sequential(nn.Conv2d(2, 2, 3, 1, 1, groups=2, bias=False))
    quicken_depthwise(conv)
    conv(torch.tensor([2.0, 5.0]).view(1, 2, 1, 1)).sum().backward()
    expected = torch.zeros(2, 1, 3, 3)
    expected[:, 0, 1, 1] = torch.tensor([2.0, 5.0])
    assert torch.equal(conv[0].weight.grad, expected)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "shufflenet_v2"])
def test_a_whole_network_learns_from_the_same_gradients(name):
    torch.manual_seed(0)
    quick = catalog.backbone_builder(name)().train()
    images = torch.rand(4, 3, 40, 40)

    def gradients():
        quick.zero_grad()
        F.mse_loss(quick(images), torch.ones(4, quick.dim)).backward()
        return [p.grad.clone() for p in quick.parameters()]

    ours = gradients()
    layers = [layer for layer in quick.modules() if isinstance(layer, DepthwiseConv2d)]
    assert layers
    for layer in layers:
        layer.__class__ = nn.Conv2d
    for quick_gradient, plain in zip(ours, gradients(), strict=True):
        torch.testing.assert_close(quick_gradient, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())


def test_what_is_not_depthwise_stays():
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Conv2d(8, 8, 3, groups=8)
    )
    quicken_depthwise(net)
    assert all(type(layer) is nn.Conv2d for layer in net)
