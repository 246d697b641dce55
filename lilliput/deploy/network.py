"""What is exported: an encoder of plain layers with its normalisation inside, and where wanted a linear classifier."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lilliput.backbones import plain
from lilliput.probes.linear import Classifier


class Deployed(nn.Module):
    """Images [B, 3, H, W], floats in 0..1 or with `uint8` bytes -> features [B, dim], with a `head` scores [B, C]."""

    def __init__(self, encoder: nn.Module, *, uint8: bool = False, head: nn.Linear | None = None):
        super().__init__()
        self.encoder, self.head, self.uint8 = encoder, head, uint8
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images.float() / 255 if self.uint8 else images)
        return features if self.head is None else self.head(features)

    def plain(self) -> "Deployed":
        """The same of torch's own layers alone."""
        return Deployed(plain(self.encoder), uint8=self.uint8, head=self.head)

    def example(self, height: int, width: int) -> Tensor:
        """Two images of noise such as it takes."""
        images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        return as_bytes(images) if self.uint8 else images


class Opened(nn.Module):
    """A network or an exported file behind one door: images [B, 3, H, W] in 0..1 -> what it gives, [B, D]."""

    def __init__(self, run: Callable[[Tensor], Tensor], *, uint8: bool = False):
        super().__init__()
        self.run, self.uint8 = run, uint8

    def forward(self, images: Tensor) -> Tensor:
        return self.run(as_bytes(images) if self.uint8 else images)


def as_bytes(images: Tensor) -> Tensor:
    """0..1 -> uint8 in 0..255."""
    return images.mul(255).round().to(torch.uint8)


def head_of(classify: Classifier) -> nn.Linear:
    """The linear probe as one layer: its standardisation is folded into the weights, in double precision."""
    mean, std, weights, biases = (values.double() for values in classify)
    folded = weights / std[:, None]  # [D, C]
    head = nn.Linear(*folded.shape)
    head.weight.data.copy_(folded.T)
    head.bias.data.copy_(biases - mean @ folded)
    return head
