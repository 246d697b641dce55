"""Random numbers for the images of a batch, a row for each.

Where several processes have a batch together, each draws the rows of all its images and keeps its own: the views are
then the same whatever the number of processes, and so is the state of their generators.
"""

import torch
from torch import Generator, Tensor

from lilliput.system import distributed

Shape = int | tuple[int, ...]


def uniform(count: Shape, low: float, high: float, rng: Generator) -> Tensor:
    """Independent draws in low..high, on the generator's device."""
    return distributed.own(torch.empty(_of_all(count), device=rng.device).uniform_(low, high, generator=rng))


def shares(count: Shape, rng: Generator) -> Tensor:
    """Independent draws in 0..1, 1 excluded."""
    return distributed.own(torch.rand(_of_all(count), device=rng.device, generator=rng))


def chosen(count: int, p: float, rng: Generator) -> Tensor:
    """[count] booleans, each true with probability p."""
    return shares(count, rng) < p


def integers(low: int, high: int, count: Shape, rng: Generator) -> Tensor:
    """Whole numbers from low up to high, which is excluded."""
    return distributed.own(torch.randint(low, high, _of_all(count), device=rng.device, generator=rng))


def normal(count: Shape, rng: Generator) -> Tensor:
    """Of mean 0 and variance 1."""
    return distributed.own(torch.randn(_of_all(count), device=rng.device, generator=rng))


def order(count: int, rng: Generator) -> Tensor:
    """[N count]: the images of the whole batch in an order by chance, the same in all of N processes."""
    return torch.randperm(count * distributed.size(), device=rng.device, generator=rng)


def _of_all(count: Shape) -> tuple[int, ...]:
    images, *rest = (count,) if isinstance(count, int) else count
    return images * distributed.size(), *rest
