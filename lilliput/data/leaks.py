"""Test images that an encoder or a probe has seen already: those that are also in the pool or the training images.

The same pixels are found by their digest. Copies that were compressed, resized, brightened, mirrored or cropped a
little are found in two steps: a hash of 64 bits says which pairs are worth a look, and the likeness of their patterns
decides. The hash is the signs of the lowest frequencies: Zauner, Implementation and Benchmarking of Perceptual Image
Hash Functions, 2010, https://www.phash.org/docs/pubs/thesis_zauner.pdf, section 3.2.1.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lilliput.data.split import digests_of
from lilliput.data.store import Data, Images, Subset
from lilliput.data.tree import names_of
from lilliput.system.progress import task

NEAR = 10  # bits of 64 that may differ: a crop of 2 px in 96 changes up to so many
LIKENESS = 0.85  # the least cosine of two patterns: ships on the horizon have 0.8
FREQUENCIES = 12  # of a pattern, in each direction
FLAT = 0.1  # grey levels in each frequency that may be noise
CHUNK_BYTES = 1 << 22  # of pixels at once
BLOCK = 256  # rows whose hashes meet those of all test images at once
NAMED = 3  # leaks that a report names
ABSENT = 255


class Leak(NamedTuple):
    """A test image and an image of the pool or the training images that is the same, or nearly."""

    test_row: int
    where: str  # pool or train
    row: int
    bits: int  # of 64 that differ
    exact: bool  # the same pixels


class Looks(NamedTuple):
    """What is kept of a store's images, 600 bytes each."""

    digests: np.ndarray  # uint64 [N], of the pixels
    hashes: np.ndarray  # uint64 [N]
    mirrored: np.ndarray  # uint64 [N], hashes of the mirror images
    patterns: np.ndarray  # float32 [N, K * K], of length 1, shorter the flatter the image is


def find(data: Data, *, near: int | None = NEAR) -> list[Leak]:
    """Leaks, sorted by test image: every leaked test image and every leaking image is in one at least, its nearest.

    `near`: bits of the hash that may differ; None to look for the same pixels only. A pool and training images that
    are the same are looked through once, as the pool. Without test images there is nothing to leak.

    What is near holds for photographs: of handwritten digits, half are near another.
    """
    if data.test is None:
        return []
    places = _places(data)
    frequencies = min(FREQUENCIES, data.test.image_size, *(store.image_size for store in places.values()))
    elsewhere = sum(map(len, places.values()))
    steps = len(data.test) + (elsewhere if near is None else 2 * elsewhere)  # read, then compared
    with task("looking for test images elsewhere", steps) as advance:
        test = _look(data.test, frequencies, advance)
        leaks = []
        for where, store in places.items():
            nearest = _Nearest(len(data.test), len(store))
            looks = _look(store, frequencies, advance)
            _offer_exact(nearest, test, looks)
            if near is not None:
                _offer_near(nearest, test, looks, near, advance)
            leaks += [
                Leak(test_row, where, row, max(rank - 1, 0), rank == 0) for test_row, row, rank in nearest.pairs()
            ]
    return sorted(leaks)


def without(data: Data, leaks: list[Leak]) -> Data:
    """The same data, whose pool and training images lack those that leak; the test images stay, so figures compare."""
    clean = {where: _without(store, where, leaks) for where, store in _places(data).items()}
    pool = clean.get("pool", data.pool)
    return data._replace(pool=pool, train=None if data.train is None else clean.get("train", pool))


def summary(data: Data, leaks: list[Leak]) -> list[str]:
    """A line for the pool and one for the training images, where they leak: how many, and the first by name."""
    if data.test is None:
        return []
    return [_line(where, data.test, store, there) for where, store, there in _by_place(data, leaks) if there]


def names(store: Images, rows: Any) -> list[str]:
    """The images' files as people would quote them, where they are known; else their numbers."""
    if isinstance(store, Subset):
        return names(store.store, store.rows[rows])
    files = names_of(store)
    return [f"image {row}" if files is None else repr(files[row]) for row in rows]


def _places(data: Data) -> dict[str, Images]:
    """Where a test image may be too; not in what is streamed, which nobody reads for that alone."""
    pool = {} if data.pool.streamed else {"pool": data.pool}
    if data.train is None or data.train.digest == data.pool.digest:
        return pool
    return {**pool, "train": data.train}


def _by_place(data: Data, leaks: list[Leak]) -> Iterator[tuple[str, Images, list[Leak]]]:
    for where, store in _places(data).items():
        yield where, store, [leak for leak in leaks if leak.where == where]


def _without(store: Images, where: str, leaks: list[Leak]) -> Images:
    """The store itself where nothing leaks: its digest, and so its runs, remain."""
    leaking = [leak.row for leak in leaks if leak.where == where]
    return store.take(np.setdiff1d(np.arange(len(store)), leaking)) if leaking else store


def _line(where: str, test: Images, store: Images, leaks: list[Leak]) -> str:
    leaked = {leak.test_row for leak in leaks}
    same = {leak.test_row for leak in leaks if leak.exact}
    first = leaks[:NAMED]
    tests, copies = names(test, [leak.test_row for leak in first]), names(store, [leak.row for leak in first])
    examples = ", ".join(f"{test_name} is {copy}" for test_name, copy in zip(tests, copies, strict=True))
    place = "the pool" if where == "pool" else "the training images"
    return (
        f"{len(leaked)} of {len(test)} test images are in {place}, {len(same)} with the same pixels and "
        f"{len(leaked) - len(same)} nearly: {examples}{', ...' if len(leaks) > NAMED else ''}"
    )


def _look(store: Images, frequencies: int, advance: Any) -> Looks:
    step = max(1, CHUNK_BYTES // (3 * store.image_size**2))
    parts = []
    for first in range(0, len(store), step):
        pixels = store.batch(slice(first, first + step)).numpy()
        parts.append(_look_at(pixels, frequencies))
        advance(len(pixels))
    return Looks(*map(np.concatenate, zip(*parts, strict=True)))


def _look_at(pixels: np.ndarray, frequencies: int) -> Looks:
    """uint8 [B, 3, H, H]."""
    grey = sum(np.float32(share) * pixels[:, channel] for channel, share in enumerate((0.299, 0.587, 0.114)))
    waves = _waves(pixels.shape[-1], frequencies)
    strengths = waves @ grey @ waves.T  # [B, K, K], in grey levels
    return Looks(
        np.frombuffer(b"".join(digests_of(pixels)), dtype=np.uint64),
        _hashes(strengths),
        _hashes(strengths * _mirror(frequencies)),
        _patterns(strengths),
    )


def _waves(size: int, count: int) -> np.ndarray:
    """The first cosines of the DCT, [count, size], scaled so that their products with an image are grey levels."""
    places = (np.arange(size) + 0.5) / size
    return (np.sqrt(2) / size * np.cos(np.pi * np.outer(np.arange(count), places))).astype(np.float32)


def _mirror(frequencies: int) -> np.ndarray:
    """What a mirror does to the strengths: every other frequency along a row changes its sign, [K]."""
    return (-1.0) ** np.arange(frequencies, dtype=np.float32)


def _hashes(strengths: np.ndarray) -> np.ndarray:
    """uint64 [B]: which of the 8 x 8 lowest frequencies are above their median; the mean grey counts as 0."""
    low = strengths[:, :8, :8].reshape(len(strengths), -1).copy()
    low[:, 0] = 0
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1).view(np.uint64)[:, 0]


def _patterns(strengths: np.ndarray) -> np.ndarray:
    """float32 [B, K * K]: strengths times the root of their frequencies, as the low ones outweigh all others in
    photographs; without the mean grey, and divided by their length, so that neither brightness nor contrast counts."""
    lines = np.arange(strengths.shape[-1], dtype=np.float32)
    weights = np.sqrt(np.hypot(lines[:, None], lines)).ravel()  # [K * K]
    weighted = strengths.reshape(len(strengths), -1) * weights
    length = np.sqrt((weighted**2).sum(1, keepdims=True) + FLAT**2 * (weights**2).sum())
    return weighted / length


class _Nearest:
    """Of every test image its nearest row of a store, and of every row its nearest test image.

    That is all of a leak that anybody needs, and thousands of equal black images do not make millions of pairs.
    Ranks: 0 the same pixels, else 1 + bits.
    """

    def __init__(self, tests: int, rows: int):
        self.row_of, self.test_of = np.zeros(tests, dtype=np.int64), np.zeros(rows, dtype=np.int64)
        self.test_rank, self.row_rank = (np.full(count, ABSENT, dtype=np.uint8) for count in (tests, rows))

    def offer(self, tests: np.ndarray, rows: np.ndarray, ranks: np.ndarray) -> None:
        """Pairs, any of which may be nearer than what is known."""
        order = np.argsort(-ranks.astype(np.int64), kind="stable")  # the nearest is written last, and stays
        tests, rows, ranks = tests[order], rows[order], ranks[order]
        for best, partner, keys, partners in (
            (self.test_rank, self.row_of, tests, rows),
            (self.row_rank, self.test_of, rows, tests),
        ):
            nearer = ranks < best[keys]
            partner[keys[nearer]], best[keys[nearer]] = partners[nearer], ranks[nearer]

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """(test row, row, rank), each once."""
        rows, tests = np.flatnonzero(self.row_rank < ABSENT), np.flatnonzero(self.test_rank < ABSENT)
        of_rows = zip(self.test_of[rows].tolist(), rows.tolist(), self.row_rank[rows].tolist(), strict=True)
        of_tests = zip(tests.tolist(), self.row_of[tests].tolist(), self.test_rank[tests].tolist(), strict=True)
        yield from {*of_rows, *of_tests}


def _offer_exact(nearest: _Nearest, test: Looks, store: Looks) -> None:
    tests, rows = _first_equal(store.digests, test.digests)
    nearest.offer(tests, rows, np.zeros(len(tests), dtype=np.uint8))
    rows, tests = _first_equal(test.digests, store.digests)
    nearest.offer(tests, rows, np.zeros(len(tests), dtype=np.uint8))


def _first_equal(these: np.ndarray, those: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every one of `these` that is among `those`, the first place there: (places there, places here)."""
    values, first = np.unique(those, return_index=True)
    places = np.searchsorted(values, these).clip(max=len(values) - 1)
    here = np.flatnonzero(values[places] == these)
    return first[places[here]], here


def _offer_near(nearest: _Nearest, test: Looks, store: Looks, near: int, advance: Any) -> None:
    """Block by block: the pairs whose hashes are near, either way round, and whose patterns are alike."""
    test_rows, store_rows = _not_flat(test), _not_flat(store)
    patterns = test.patterns[test_rows]
    ways = (test.hashes[test_rows], patterns), (test.mirrored[test_rows], _flipped(patterns))
    for first in range(0, len(store_rows), BLOCK):
        block = store_rows[first : first + BLOCK]
        for hashes, turned in ways:
            bits = np.bitwise_count(store.hashes[block][:, None] ^ hashes)  # uint8 [block, M]
            close = bits <= near
            # a single product for all that is close to anything: bounded, even where all images are alike
            rows, tests = np.flatnonzero(close.any(1)), np.flatnonzero(close.any(0))
            alike = store.patterns[block[rows]] @ turned[tests].T >= LIKENESS
            row, test_place = np.nonzero(alike & close[np.ix_(rows, tests)])
            row, test_place = rows[row], tests[test_place]
            nearest.offer(test_rows[test_place], block[row], bits[row, test_place] + 1)
        advance(len(block))


def _flipped(patterns: np.ndarray) -> np.ndarray:
    """The patterns of the mirror images."""
    side = math.isqrt(patterns.shape[1])
    return (patterns.reshape(-1, side, side) * _mirror(side)).reshape(patterns.shape)


def _not_flat(looks: Looks) -> np.ndarray:
    """Rows of the images that have a pattern: plain ones are like no other, nor even like a copy of themselves."""
    return np.flatnonzero((looks.patterns**2).sum(1) >= LIKENESS)
