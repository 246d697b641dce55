"""Stores of noise, and shards of it."""

import io
import tarfile

import numpy as np
from PIL import Image

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


def png(seed, size=16):
    """A file's content: noise that its seed determines."""
    pixels, file = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def add(tar, member, content):
    """A member, by its name or its TarInfo, to an open tar."""
    info = tarfile.TarInfo(member) if isinstance(member, str) else member
    if content is not None:
        info.size = len(content)
    tar.addfile(info, None if content is None else io.BytesIO(content))


def packed(path, *members, **options):
    """A tar of (TarInfo or name, bytes) members."""
    with tarfile.open(path, "w", **options) as tar:
        for member, content in members:
            add(tar, member, content)
    return path


def shard_of(path, seeds, size=16):
    """A tar of noise, an image for each seed, with a label beside each."""
    contents = ((f"{seed:04d}", png(seed, size)) for seed in seeds)
    return packed(path, *(part for name, image in contents for part in ((f"{name}.png", image), (f"{name}.cls", b"0"))))
