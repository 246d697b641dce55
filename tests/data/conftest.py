"""Stores of noise."""

import numpy as np

from lilliput.data.writing import write_store


def noise(count, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def written(folder, pixels, *, give_up=None, name="x", split="pool", source="noise", **options):
    def fill(images, masks):
        images[:] = pixels
        if masks is not None:
            masks[:] = pixels[:, 0] > 127
        return give_up

    size, count = pixels.shape[-1], len(pixels)
    return write_store(
        folder, name=name, split=split, source=source, image_size=size, count=count, fill=fill, **options
    )
