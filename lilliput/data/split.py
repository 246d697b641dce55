"""Labelled images without a split, into those to train and those to test by."""

import hashlib

import numpy as np

from lilliput.data.store import Images, Subset
from lilliput.data.tree import refuse_classes
from lilliput.system.progress import task

SHARE = 0.2  # of the images of a class that judge, where nobody says
CHUNK_BYTES = 1 << 22  # of pixels at once


def split(store: Images, share: float) -> tuple[Subset, Subset]:
    """Train and test: `share` of the different images of each class judge, drawn always alike.

    Copies (the same pixels) stay on one side, whatever their classes. Raises BadData naming classes that cannot stand
    on both sides.
    """
    looks = np.unique(pixel_digests(store), return_inverse=True)[1]  # [N], a number for each different image
    tests = np.full(looks.max() + 1, -1)  # 1 to test, 0 to train, -1 not yet drawn
    rng = np.random.default_rng(0)
    for label in range(len(store.classes)):
        own = rng.permutation(np.unique(looks[store.labels == label]))
        free = own[tests[own] < 0]
        wanted = np.clip(round(share * len(own)), 1, max(1, len(own) - 1)) - (tests[own] == 1).sum()
        tests[free] = np.arange(len(free)) < wanted
    test_rows, train_rows = np.flatnonzero(tests[looks] == 1), np.flatnonzero(tests[looks] == 0)
    for rows in (train_rows, test_rows):
        absent = set(range(len(store.classes))) - set(store.labels[rows].tolist())
        refuse_classes(
            {store.classes[label] for label in absent},
            f"too small in {store.manifest['source']} to be learned and judged: it takes two different images",
        )
    return store.take(train_rows), store.take(test_rows)


def pixel_digests(store: Images) -> np.ndarray:
    """uint64 [N]: equal where the pixels are."""
    step = max(1, CHUNK_BYTES // (3 * store.image_size**2))
    digests = []
    with task("looking for copies", len(store)) as advance:
        for first in range(0, len(store), step):
            pixels = store.batch(slice(first, first + step)).numpy()
            digests += digests_of(pixels)
            advance(len(pixels))
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def digests_of(pixels: np.ndarray) -> list[bytes]:
    """Eight bytes of each image of uint8 [B, 3, H, H]."""
    return [hashlib.blake2b(image.data, digest_size=8).digest() for image in pixels]
