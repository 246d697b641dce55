"""Whether an exported file gives what the network gave: the largest difference, and the classes on which both agree."""

from typing import NamedTuple

from torch import Tensor

from lilliput.errors import BadSetting

TOLERANCE = 1e-3  # of the largest value; other kernels add in another order, and networks of 50 layers add much


class Parity(NamedTuple):
    images: int
    largest_difference: float
    largest_value: float
    agreement: float | None  # share of images taken for the same class; None where there are no classes

    def __str__(self) -> str:
        classes = "" if self.agreement is None else f", the same class for {self.agreement:.1%}"
        return (
            f"largest difference {self.largest_difference:.2g} beside values up to {self.largest_value:.3g} "
            f"on {self.images} images{classes}"
        )


def parity(ours: Tensor, theirs: Tensor, taken: tuple[Tensor, Tensor] | None = None) -> Parity:
    """Of two networks' outputs [N, D] for the same images, and the classes [N] that they are `taken` for by each."""
    agreement = None if taken is None else (taken[0] == taken[1]).double().mean().item()
    return Parity(len(ours), (ours - theirs).abs().max().item(), ours.abs().max().item(), agreement)


def kept(found: Parity) -> bool:
    """Whether the other gives what the network gives; not a number never does."""
    return found.largest_difference <= TOLERANCE * found.largest_value


def check(found: Parity, what: str) -> Parity:
    """BadSetting where the file does not give what the network gave."""
    if not kept(found):
        raise BadSetting(f"{what} does not give what the network gives: {found}; nothing is left of it")
    return found
