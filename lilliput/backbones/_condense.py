"""Networks whose layers condense while they train, as they are when they need not learn any more."""

import copy
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def condensed(network: M) -> M:
    """A copy in which every part that has a method `condensed` is what that gives: the same features for less work."""
    copied = copy.deepcopy(network)
    for name, part in list(copied.named_modules()):
        if callable(own := getattr(part, "condensed", None)):
            copied.set_submodule(name, own().train(part.training))
    return copied


def condenses(network: nn.Module) -> bool:
    """Whether any part of it does."""
    return any(callable(getattr(part, "condensed", None)) for part in network.modules())


def at_the_end(network: M) -> M:
    """As `condensed`, after all the condensing that training does; the numbers are not those that it will leave."""
    copied = copy.deepcopy(network)
    for part in copied.modules():
        if callable(own := getattr(part, "after_step", None)):
            own(1.0)
    return condensed(copied)
