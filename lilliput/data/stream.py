"""Images of shards, decoded when their batch comes: an epoch in an order that is known without reading any of it.

The shards are shuffled, then the images within each window of shards, from a number that the epoch's generator draws;
so a run goes on at any image. Few windows of shards and few batches are held at a time, however many there are.
"""

import bisect
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

import numpy as np

from lilliput.data.filling import reason_of
from lilliput.data.shards import Index, Shard, Tar, read_member
from lilliput.data.shelf import Shelf, bring_all
from lilliput.data.store import Images
from lilliput.errors import BadData, CannotWrite, LilliputError, Unreadable
from lilliput.images.decode import LARGE_BYTES, decode, one_at_a_time, quietly, silence
from lilliput.system.files import home
from lilliput.system.machine import cores
from lilliput.system.progress import Aside, say
from lilliput.system.records import json_digest

if TYPE_CHECKING:
    import torch

WINDOW_IMAGES, WINDOW_SHARDS = 8192, 4  # a window has at least so many
AHEAD = 2  # batches that are decoded while another is used
IMAGES_PER_JOB = 8
INDICES_KEPT = 64  # of shards, in memory


@final
class Order:
    """The rows of shards that begin at `starts` (the last is where they end), in the order of a seed.

    Sliced as an array would be; of it one window is worked out at a time.
    """

    def __init__(self, starts: Sequence[int], seed: int):
        self.starts, self.seed = starts, seed
        self.windows: list[list[int]] = []  # numbers of shards
        images = WINDOW_IMAGES
        for shard in np.random.default_rng(seed).permutation(len(starts) - 1).tolist():
            if images >= WINDOW_IMAGES and (not self.windows or len(self.windows[-1]) >= WINDOW_SHARDS):
                self.windows.append([])
                images = 0
            self.windows[-1].append(shard)
            images += starts[shard + 1] - starts[shard]
        sizes = [sum(starts[shard + 1] - starts[shard] for shard in window) for window in self.windows]
        self.ends = list(itertools.accumulate(sizes))
        self._rows = lru_cache(2)(self._worked_out)

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, places: slice) -> np.ndarray:
        first, last, step = places.indices(len(self))
        parts, place = [np.empty(0, dtype=np.int64)], first
        while place < last:
            number = self.window_at(place)
            begin = self.ends[number - 1] if number else 0
            parts.append(self._rows(number)[place - begin : last - begin])
            place = self.ends[number]
        return np.concatenate(parts)[::step]

    def window_at(self, place: int) -> int:
        """The number of the window in which a place lies."""
        return bisect.bisect_right(self.ends, place)

    def _worked_out(self, number: int) -> np.ndarray:
        rows = np.concatenate([np.arange(*self.starts[shard : shard + 2]) for shard in self.windows[number]])
        return np.random.default_rng([self.seed, number]).permutation(rows)


@final
class Stream(Images):
    """The images of shards, without labels. Its digest is that of their names and sizes, not of their pixels.

    An image that cannot be read when its turn comes is passed over: the next of its shard that can be stands in for
    it, or one of the next shard, so that the place of every other stays what it is.
    """

    streamed = True

    def __init__(self, name: str, source: str, shards: Sequence[Shard], image_size: int, shelf: Shelf):
        self.shards, self.shelf, self._size = list(shards), shelf, image_size
        self.starts = [0, *itertools.accumulate(shard.images for shard in self.shards)]
        self.folder = home() / "shards"
        self.digest = json_digest(["shards", image_size, [shard.digest for shard in self.shards]])
        self.manifest = {"name": name, "source": source, "classes": None, "skipped": [], "digest": self.digest}
        self._labels = None
        self.passed_over: dict[int, str] = {}  # row -> why
        self._gone: dict[int, str] = {}  # shard -> why, until the next epoch
        self._aside = Aside()
        in_windows = 3 * WINDOW_IMAGES * len(self.shards) // len(self)
        self._index = lru_cache(max(INDICES_KEPT, in_windows))(self._read_index)

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def image_size(self) -> int:
        return self._size

    @property
    def images(self) -> np.ndarray:
        raise BadData(f"the images of {self.manifest['source']} are streamed, and never all in memory")

    @property
    def masks(self) -> None:
        return None

    def at_hand(self, rows: np.ndarray) -> np.ndarray:
        """Of the first shards: every one that is asked may cost a download."""
        return rows * self.starts[min(WINDOW_SHARDS, len(self.shards))] // len(self)

    def batch(self, indices: Any) -> "torch.Tensor":
        import torch

        rows = np.arange(len(self))[indices] if isinstance(indices, slice) else np.asarray(indices)
        with self._crew() as pool, quietly():
            return torch.from_numpy(_whole(*self._begun(pool, rows)))

    def batches(
        self, size: int, device: "str | torch.device", epoch: int, rng: "torch.Generator", start: int = 0
    ) -> "Iterator[torch.Tensor]":
        """As of any images; from whichever number on, what came before is not read.

        Of several processes each decodes its part of every batch.
        """
        import torch

        from lilliput.data.feed import copied

        order = self.order(rng)
        self._gone.clear()
        firsts = range(start * size, len(self) // size * size, size)
        decoded = self._decoded(order, firsts, size)
        if (device := torch.device(device)).type == "cuda":
            return copied(lambda batch: batch, decoded, device)
        return (batch.to(device).float().div_(255) for batch in decoded)

    def order(self, rng: "torch.Generator") -> Order:
        """An epoch's, of which a process among several may take its part of each batch."""
        import torch

        return Order(self.starts, torch.randint(2**62, (1,), generator=rng, device=rng.device).item())  # type: ignore[arg-type]

    def _decoded(self, order: Order, firsts: Iterable[int], size: int) -> "Iterator[torch.Tensor]":
        """Batches uint8 in their order, the next AHEAD in work while one is used; the shards of the next window are
        brought meanwhile."""
        import torch

        from lilliput.system.distributed import own

        window, waiting = -1, deque[tuple[np.ndarray, list[Future]]]()
        silence()
        with self._crew() as pool:
            for first in itertools.chain(firsts, [None] * AHEAD):
                if first is not None:
                    if (now := order.window_at(first)) != window:
                        window = now
                        self._look_ahead(order, window)
                    rows = own(torch.from_numpy(order[first : first + size])).numpy()
                    waiting.append(self._begun(pool, rows))
                if waiting and (len(waiting) > AHEAD or first is None):
                    batch = torch.from_numpy(_whole(*waiting.popleft()))
                    self._aside.say()
                    yield batch

    def _look_ahead(self, order: Order, window: int) -> None:
        around = order.windows[max(0, window - 1) : window + 2]  # the last batches of the one before are in work
        self.shelf.take_in_hand(self.shards[shard].tar for numbers in around for shard in numbers)
        wanted = [self.shards[shard].tar for numbers in order.windows[window : window + 2] for shard in numbers]
        if wanted := [
            tar for tar in wanted if tar.remote
        ]:  # a daemon: who stops waits for no download, which goes on later
            threading.Thread(target=self._bring, args=(wanted,), daemon=True).start()

    def _bring(self, tars: list[Tar]) -> None:
        self._aside.hear()
        bring_all(self.shelf, tars)

    @contextmanager
    def _crew(self) -> Iterator[ThreadPoolExecutor]:
        """Threads, as Pillow lets go of Python's lock while it decodes; what has not begun ends with the block."""
        pool = ThreadPoolExecutor(cores(), initializer=self._aside.hear)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            self._aside.say()

    def _begun(self, pool: ThreadPoolExecutor, rows: np.ndarray) -> tuple[np.ndarray, list[Future]]:
        """A batch, uint8 [B, 3, H, H], and the jobs that fill it."""
        batch = np.empty((len(rows), 3, self._size, self._size), dtype=np.uint8)

        def fill(first: int) -> None:
            for place in range(first, min(first + IMAGES_PER_JOB, len(rows))):
                batch[place] = self._image(int(rows[place]))

        return batch, [pool.submit(fill, first) for first in range(0, len(rows), IMAGES_PER_JOB)]

    def _image(self, row: int) -> np.ndarray:
        """The image of a row, uint8 [3, H, H], or of the next that can be read."""
        its = bisect.bisect_right(self.starts, row) - 1
        for shard in itertools.chain(range(its, len(self.shards)), range(its)):
            begin, end = self.starts[shard : shard + 2]
            place = (row - self.starts[its]) % (end - begin)
            for other in (*range(begin + place, end), *range(begin, begin + place)):
                if shard in self._gone:
                    break
                if other in self.passed_over:
                    continue
                try:
                    return self._read(shard, other - begin)
                except (CannotWrite, MemoryError):  # for want of room no image is left out
                    raise
                except LilliputError as error:
                    self._tell_gone(shard, error)
                except Exception as error:  # what a damaged file makes Pillow raise is not documented
                    self._tell_passed(shard, other, error)
        raise BadData(f"no image of {self.manifest['source']} can be read any more")

    def _read(self, shard: int, number: int) -> np.ndarray:
        index = self._index(shard)
        offset, size = index.offsets[number], index.sizes[number]
        with one_at_a_time(size > LARGE_BYTES):
            content = self._content(self.shards[shard].tar, offset, size)
            return decode(content, self._size)

    def _content(self, tar: Tar, offset: int, size: int) -> bytes:
        """What a tar holds there; where its disk fails it is no fault of the image's."""
        try:
            with self.shelf.opened(tar) as file:
                return read_member(file, offset, size)
        except OSError as error:
            raise Unreadable(f"cannot read {tar.source}: {error.strerror or error}") from None

    def _read_index(self, shard: int) -> Index:
        return self.shards[shard].contents

    def _tell_gone(self, number: int, error: LilliputError) -> None:
        if number not in self._gone:
            self._gone[number] = str(error)
            shard = self.shards[number]
            say(f"{shard.tar.source} is passed over in this epoch, with its {shard.images} images: {error}")

    def _tell_passed(self, shard: int, row: int, error: Exception) -> None:
        name = f"{self.shards[shard].tar.source}: {self._index(shard).names[row - self.starts[shard]]}"
        if not self.passed_over:
            say(f"passed over {name!r}: {reason_of(error)}; others are counted in the log")
        self.passed_over[row] = reason_of(error)

    def __reduce__(self):
        return Stream, (self.manifest["name"], self.manifest["source"], self.shards, self._size, self.shelf)

    def __repr__(self) -> str:
        return f"Stream({self.manifest['source']!r}, {len(self)} images of {self._size} px)"


def _whole(batch: np.ndarray, jobs: list[Future]) -> np.ndarray:
    for job in jobs:
        job.result()
    return batch
