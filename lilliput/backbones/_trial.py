"""Trial runs of a network: which images it takes, and how many channels and places the maps that it gives have."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from lilliput.system.modes import evaluating

Layer = Callable[[Tensor], Tensor]
Split = Callable[[Any], Sequence[Sequence[Layer]]]  # network -> the layers of every stage, in order
Result = TypeVar("Result")

TRIAL_PIXELS = 64  # enough for five halvings; a network of fixed size is tried at its own


class Geometry(NamedTuple):
    """The maps of every stage: their channels, and the pixels of the input from one of their places to the next."""

    dims: tuple[int, ...]
    strides: tuple[int, ...]


_known: dict[tuple[str, int], Geometry] = {}  # by what is built, and the number of the measurement in its building
_measurements: ContextVar[Iterator[tuple[str, int]] | None] = ContextVar("measurements", default=None)


@contextmanager
def of_one_kind(kind: str) -> Iterator[None]:
    """Whatever is built within is the same network each time that this `kind` is: its maps are measured once."""
    token = _measurements.set((kind, number) for number in count())
    try:
        yield
    finally:
        _measurements.reset(token)


class TrialFailed(Exception):
    """A network took images of none of the sizes tried; the message is the reason at the last size."""


@contextmanager
def watching(layers: Mapping[str, nn.Module], watch: Callable[[str, Tensor], None]) -> Iterator[None]:
    """At every call of one of the layers, `watch` is given its name and its input."""
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: watch(name, inputs[0]))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def run_stages(stages: Sequence[Sequence[Layer]], x: Tensor) -> list[Tensor]:
    """The maps at the end of every stage."""
    ends = []
    for layers in stages:
        for layer in layers:
            x = layer(x)
        ends.append(x)
    return ends


def black_images(net: nn.Module, channels: int, size: int) -> Tensor:
    """[2, channels, size, size] where the network's weights are."""
    return next(net.parameters(), torch.empty(0)).new_zeros(2, channels, size, size)


def at_fitting_size(net: nn.Module, trial: Callable[[int], Result]) -> Result:
    """What `trial` gives at the first size, in pixels, at which it works. Raises TrialFailed if there is none."""
    own = getattr(net, "pretrained_cfg", None) or {}
    for size in (TRIAL_PIXELS, own.get("input_size", (3, 224, 224))[-1]):
        try:
            return trial(size)
        except Exception as error:  # whatever a library's layer raises means the same: not at this size
            reason = str(error).partition("\n")[0]
    raise TrialFailed(reason)


def measure(net: nn.Module, stages: Callable[[Tensor], list[Tensor]], channels: int) -> Geometry:
    """The geometry of the maps that `stages`, which calls `net`, gives. Raises TrialFailed."""
    place = next(_measurements.get() or iter(()), None)
    if place not in _known:
        found = _measured(net, stages, channels)
        if place is None:
            return found
        _known[place] = found
    return _known[place]  # type: ignore[index]


def _measured(net: nn.Module, stages: Callable[[Tensor], list[Tensor]], channels: int) -> Geometry:
    def sides_and_dims(size: int) -> tuple[list[int], list[int]]:
        with evaluating(net), torch.no_grad():
            maps = stages(black_images(net, channels, size))
        return [m.shape[-1] for m in maps], [m.shape[1] for m in maps]

    size, (sides, dims) = at_fitting_size(net, lambda size: (size, sides_and_dims(size)))
    step = 2 ** math.ceil(math.log2(size / sides[-1])) if 0 < sides[-1] <= size else size  # one place more, or two
    try:
        larger, _ = sides_and_dims(size + step)
    except Exception:  # of fixed size
        larger = sides
    return Geometry(tuple(dims), tuple(_stride(size, step, *pair) for pair in zip(sides, larger, strict=True)))


def _stride(size: int, step: int, side: int, larger: int) -> int:
    """From the places that `step` more pixels add, for missing padding costs as many at both sizes."""
    return round(step / (larger - side)) if larger > side else round(size / max(1, side))
