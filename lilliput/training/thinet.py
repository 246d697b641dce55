"""ThiNet: of a trained network, drop the channels that the next layer misses least; no label is asked for.

Luo, Wu, Lin, ICCV 2017, https://arxiv.org/abs/1707.06342, sections 3.2.1 to 3.2.3.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lilliput.backbones import Backbone, Link, links
from lilliput.data.store import Images
from lilliput.system.modes import evaluating
from lilliput.system.plan import Plan
from lilliput.system.progress import task

PLACES = 10  # of an image, as in the paper; more where images are few:
ROWS = 10  # at least so many for each channel, or least squares fit what is there by chance
BATCH = 128  # images at a time
LEAST = 1e-12  # of the largest eigenvalue: what is below was not seen, and no scale is read from it


@torch.no_grad()
def thin(backbone: Backbone, images: Images, keep: float, *, plan: Plan, seed: int) -> dict[str, int]:
    """Leave a share `keep` of the channels of every convolution that may lose some, in place, from the first on.

    Returns how many are left, by convolution, where fewer than there were. `plan`: where the backbone is.
    """
    left = {}
    with evaluating(backbone), task("pruning", len(found := links(backbone))) as advance:
        for number, link in enumerate(found):
            count = max(1, round(keep * link.channels))
            if count < link.channels:
                drop(link, products(backbone, link, images, plan, seed + number), count)
                left[link.name] = count
            advance(1)
    return left


def drop(link: Link, products: Tensor, count: int) -> None:
    """Keep the `count` channels that matter most, and let them stand for the others, in place."""
    kept = least_missed(products, count)
    scales = rescaling(products, kept)
    link.keep(kept.to(link.source.weight.device))
    for reader in link.readers:
        reader.weight.mul_(scales.to(reader.weight)[None, :, None, None])


def least_missed(products: Tensor, count: int) -> Tensor:
    """The `count` channels to keep, in order: the paper's algorithm 1, which drops one after another.

    `products` [C, C] are the sums, over all rows x of `added`, of x_i x_j. Those of the dropped channels T sum up to
    the paper's equation 6, sum over x of (sum over T of x_i)^2; each step adds to T what makes that least.
    """
    with_dropped = torch.zeros_like(products[0])  # of each channel: its products with those that are dropped
    dropped = torch.zeros(len(products), dtype=torch.bool)
    for _ in range(len(products) - count):
        cost = products.diagonal() + 2 * with_dropped
        cost[dropped] = torch.inf
        least = cost.argmin()
        dropped[least] = True
        with_dropped += products[least]
    return (~dropped).nonzero().flatten()


def rescaling(products: Tensor, kept: Tensor) -> Tensor:
    """[len(kept)]: by what each kept channel is multiplied, so that together they add what all added: equation 7.

    Ordinary least squares, by its normal equations; what the rows leave open stays at 1.
    """
    among = products[kept]
    missed = among.sum(1) - among[:, kept].sum(1)
    return 1 + torch.linalg.pinv(among[:, kept], rtol=LEAST, hermitian=True) @ missed


def products(backbone: Backbone, link: Link, images: Images, plan: Plan, seed: int) -> Tensor:
    """[C, C], on the CPU in float64: for every two channels, the product of what both add, summed over what is drawn.

    Places and filters are drawn on the CPU, so they are the same on every device.
    """
    rng = torch.Generator().manual_seed(seed)
    count = max(PLACES, -(-ROWS * link.channels // len(images)))
    total = torch.zeros(link.channels, link.channels, dtype=torch.float64)

    def note(reader: nn.Conv2d, inputs: tuple[Tensor], _: Tensor) -> None:
        rows = added(reader, inputs[0], count, rng).cpu().double()
        total.addmm_(rows.T, rows)

    hooks = [reader.register_forward_hook(note) for reader in link.readers]
    try:
        for first in range(0, len(images), BATCH):
            backbone.maps(images.load(slice(first, first + BATCH), plan.device))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def added(conv: nn.Conv2d, maps: Tensor, count: int, rng: Generator) -> Tensor:
    """[count B, C]: what each channel of the maps [B, C, H, W] adds to a number of the convolution's output, without
    its bias; of every image `count` such numbers, of a filter and at a place drawn at random."""
    (above, aside), (high, wide) = map(int, conv.padding), conv.kernel_size  # no word: `links` passes those by
    padded = F.pad(maps, (aside, aside, above, above))
    image = torch.arange(len(maps)).repeat_interleave(count)
    rows = _taps(padded.shape[2], high, conv.stride[0], conv.dilation[0], len(image), rng)
    columns = _taps(padded.shape[3], wide, conv.stride[1], conv.dilation[1], len(image), rng)
    filters = torch.randint(conv.out_channels, (len(image),), generator=rng)
    image, rows, columns, filters = (numbers.to(maps.device) for numbers in (image, rows, columns, filters))
    windows = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [count B, high, wide, C]
    return torch.einsum("nhwc,nchw->nc", windows, conv.weight[filters])


def _taps(size: int, kernel: int, stride: int, dilation: int, count: int, rng: Generator) -> Tensor:
    """[count, kernel]: of places drawn along one side of padded maps, what the kernel sees there."""
    places = (size - dilation * (kernel - 1) - 1) // stride + 1
    first = torch.randint(places, (count, 1), generator=rng) * stride
    return first + torch.arange(kernel) * dilation
