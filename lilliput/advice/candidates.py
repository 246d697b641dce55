"""What may be chosen: technique x backbone, of the backbones that keep within the limits."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from lilliput.errors import BadSetting
from lilliput.system import cost
from lilliput.system.modes import evaluating
from lilliput.system.plan import choose
from lilliput.system.progress import say
from lilliput.training.cell import Cell

MIB = 2**20
THOUSANDS = {"K": 1e3, "M": 1e6, "G": 1e9}
WARM, TIMED = 3, 15  # images, one by one


@dataclass(frozen=True)
class Limits:
    """Of a network in use: multiply-adds for an image of the search's size, the milliseconds that it takes alone, MiB
    of weights in single precision. None: no limit."""

    macs: float | None = None
    latency_ms: float | None = None
    mib: float | None = None


@dataclass(frozen=True)
class Size:
    """What the limits are about, of an encoder."""

    macs: int
    latency_ms: float
    mib: float

    def beyond(self, limits: Limits) -> list[str]:
        """In words, every limit that it does not keep."""
        words = {"macs": "{:,.0f} multiply-adds", "latency_ms": "{:.1f} ms an image", "mib": "{:.1f} MiB"}
        own, most = asdict(self), asdict(limits)
        return [
            f"{words[name].format(own[name])}, where {words[name].format(limit)} may be"
            for name, limit in most.items()
            if limit is not None and own[name] > limit
        ]


def amount(words: str) -> float:
    """Of 100M, 1.5G, 300k or digits; BadSetting where it is none."""
    number, unit = (words[:-1], words[-1].upper()) if words[-1:].upper() in THOUSANDS else (words, "")
    try:
        value = float(number) * THOUSANDS.get(unit, 1)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise BadSetting(f"{words!r} is no amount: write 100M, 1.5G or 300k")
    return value


def size_of(encoder: nn.Module, image_size: int, device: str) -> Size:
    """Of an encoder as it would be used: in single precision, one image at a time, on the device."""
    weights = sum(value.numel() * value.element_size() for value in encoder.state_dict().values())
    macs = cost.multiply_adds(encoder, image_size)
    return Size(macs, _latency_ms(encoder.to(device), image_size, device), weights / MIB)


@torch.inference_mode()
def _latency_ms(encoder: nn.Module, image_size: int, device: str) -> float:
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    seconds = []
    with evaluating(encoder):
        for _ in range(WARM + TIMED):
            began = time.perf_counter()
            encoder(image).sum().item()  # waits for an accelerator, too
            seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM:])


def within(
    cells: Sequence[Cell], limits: Limits, image_size: int, device: str | None
) -> tuple[list[Cell], dict[str, Size]]:
    """The cells whose backbones keep the limits, and the size of every backbone by its name; what is left out is said.

    BadSetting where none is left.
    """
    device = choose(device).device
    sizes = {cell.backbone: size_of(cell.build_encoder(), image_size, device) for cell in _firsts(cells)}
    reasons = {name: beyond for name, size in sizes.items() if (beyond := size.beyond(limits))}
    for name, beyond in reasons.items():
        say(f"{name} is left out: {'; '.join(beyond)}")
    if len(reasons) == len(sizes):
        name = min(sizes, key=lambda name: sizes[name].macs)
        raise BadSetting(f"no backbone keeps the limits; the smallest, {name}: {'; '.join(reasons[name])}")
    return [cell for cell in cells if cell.backbone not in reasons], sizes


def _firsts(cells: Sequence[Cell]) -> list[Cell]:
    """One cell of each backbone."""
    return list({cell.backbone: cell for cell in reversed(cells)}.values())
