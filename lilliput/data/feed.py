"""How batches of images come to an accelerator, without its waiting for them.

Where they fit, all images at rest lie there as bytes, and a batch is picked there. Else a thread brings a few batches
ahead into pinned memory, and copies them on a stream of its own while the steps before are under way.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lilliput.system.distributed import own
from lilliput.system.machine import available_bytes

T = TypeVar("T")
U = TypeVar("U")

SHARE = 1 / 8  # of the free memory, that images may take: batches are planned to take .8 of it
AHEAD = 2  # batches that lie ready


class Images(Protocol):
    """What is asked of a store's."""

    def __len__(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    def batch(self, indices: Any) -> Tensor: ...
    def load(self, indices: Any, device: Any) -> Tensor: ...


_lying: WeakKeyDictionary[Images, dict[torch.device, Tensor | None]] = WeakKeyDictionary()


def fed(images: Images, order: Tensor, size: int, start: int, device: torch.device) -> Iterator[Tensor]:
    """Whole batches of the images in that order [N], from number `start` on, float in 0..1 on the device; of several
    processes each gets its part of every batch."""
    firsts = range(start * size, len(order) // size * size, size)
    pixels = lying(images, device) if device.type == "cuda" else None
    order = order.cpu() if pixels is None else order.to(device)
    rows = (own(order[first : first + size]) for first in firsts)
    if pixels is not None:
        return (pixels[some].float().div_(255) for some in rows)
    return copied(images.batch, rows, device) if device.type == "cuda" else (images.load(some, device) for some in rows)


def lying(images: Images, device: torch.device) -> Tensor | None:
    """All of them on the device, uint8 [N, 3, H, H], as long as the images are in use; None where they do not fit."""
    held = _lying.setdefault(images, {})
    if device not in held:
        fits = len(images) * 3 * images.image_size**2 <= SHARE * available_bytes(str(device))
        held[device] = images.batch(slice(None)).to(device) if fits else None
    return held[device]


def copied(make: Callable[[T], Tensor], of: Iterable[T], device: torch.device) -> Iterator[Tensor]:
    """The batches uint8 [B, 3, H, H] that `make` gives for each, ahead, as float in 0..1 on a CUDA device."""
    stream = torch.cuda.Stream(device)

    def brought(one: T) -> tuple[Tensor, Any]:
        with torch.cuda.stream(stream):
            batch = make(one).pin_memory().to(device, non_blocking=True)
            return batch, stream.record_event()

    with closing(ahead(brought, of)) as batches:
        for batch, there in batches:
            torch.cuda.current_stream(device).wait_event(there)  # the device waits, where it must, and not the program
            batch.record_stream(torch.cuda.current_stream(device))
            yield batch.float().div_(255)


def ahead(make: Callable[[T], U], of: Iterable[T], count: int = AHEAD) -> Generator[U, None, None]:
    """What `make` gives for each, in order, made by a thread while those before are used; no more than `count` ready.

    An error comes where what it befell would have come. The thread ends with the iterator, or when that is closed.
    """
    rest = iter(of)
    with ThreadPoolExecutor(1) as thread:
        ready = deque(thread.submit(make, one) for one in islice(rest, count))
        try:
            while ready:
                made = ready.popleft().result()
                ready.extend(thread.submit(make, one) for one in islice(rest, 1))
                yield made
        finally:
            for waiting in ready:
                waiting.cancel()
