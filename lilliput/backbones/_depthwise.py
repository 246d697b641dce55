"""Depthwise convolutions whose weight gradient is quick on a CPU.

oneDNN computes that gradient of 5 x 5 kernels, and of any kernel on maps smaller than itself, up to 20 times slower
than as many plain products as the kernel has taps; it is right, so the rest of the work stays with it.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_MAP = 12  # pixels a side: beyond, the products fall out of the cache and oneDNN is as quick


def quicken_depthwise(net: nn.Module) -> None:
    """Change the class of every square depthwise convolution in `net`, in place; names and weights stay."""
    for layer in net.modules():
        if type(layer) is nn.Conv2d and layer.groups > 1 and _is_plain(layer):
            layer.__class__ = DepthwiseConv2d


def _is_plain(conv: nn.Conv2d) -> bool:
    side = conv.kernel_size[0]
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size == (side, side)
        and conv.stride[0] == conv.stride[1]
        and conv.padding == (side // 2, side // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d with one filter a channel; its own weight gradient where that is quicker."""

    def forward(self, maps: Tensor) -> Tensor:
        learns = self.bias is None and self.weight.requires_grad and torch.is_grad_enabled()
        # a traced network is to be of torch's own layers alone, whatever the size of the maps that it is traced with
        if learns and not torch.jit.is_tracing() and self._is_slow(maps):  # type: ignore[no-untyped-call]
            return _Depthwise.apply(maps, self.weight, self.stride[0])
        return super().forward(maps)

    def _is_slow(self, maps: Tensor) -> bool:
        plain = maps.device.type == "cpu" and maps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        side, kernel = maps.shape[-1], self.kernel_size[0]
        return plain and (side < kernel or (kernel >= 5 and side <= LARGEST_MAP))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps, weight, stride):
        ctx.save_for_backward(maps, weight)
        ctx.stride = stride
        return F.conv2d(maps, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient):
        maps, weight = ctx.saved_tensors
        stride, padding = [ctx.stride] * 2, [weight.shape[-1] // 2] * 2
        wanted = [ctx.needs_input_grad[0], False, False]  # of maps, weight and bias
        # torch.nn.grad.conv2d_input gives the same bits in 1.1 to 5 times the time: it stands a broadcast number in for
        # the maps, which oneDNN copies out
        into_maps, _, _ = torch.ops.aten.convolution_backward(
            gradient, maps, weight, None, stride, padding, [1, 1], False, [0, 0], len(weight), wanted
        )
        return into_maps, weight_gradient(maps, gradient, weight.shape[-1], ctx.stride), None


def weight_gradient(maps: Tensor, gradient: Tensor, kernel: int, stride: int) -> Tensor:
    """[B, C, H, W], [B, C, h, w] -> [C, 1, kernel, kernel]: for each tap, the products of what it joined, summed."""
    maps, gradient = maps.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)  # channels last: sums run along memory
    taps = maps.new_zeros(kernel, kernel, maps.shape[-1])
    for row, rows_in, rows_out in _met(maps.shape[1], gradient.shape[1], kernel, stride):
        for column, columns_in, columns_out in _met(maps.shape[2], gradient.shape[2], kernel, stride):
            joined = maps[:, rows_in, columns_in] * gradient[:, rows_out, columns_out]
            taps[row, column] = joined.sum((0, 1, 2))
    return taps.permute(2, 0, 1).unsqueeze(1)


def _met(size_in: int, size_out: int, kernel: int, stride: int) -> Iterator[tuple[int, slice, slice]]:
    """(tap, places of the input, places of the output) that a tap joins along one side; taps on the border alone none.

    Output o sees input o * stride + tap - padding.
    """
    padding = kernel // 2
    for tap in range(kernel):
        first = max(0, -(-(padding - tap) // stride))
        last = min(size_out - 1, (size_in - 1 + padding - tap) // stride)
        if first <= last:
            start = first * stride + tap - padding
            yield tap, slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1)
