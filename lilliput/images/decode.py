"""Image files and raw arrays, of any mode and shape, to upright square uint8 RGB at one size.

Pillow decodes. Transparent parts are laid over white, colour profiles are ignored, of an animation the first frame
counts. The largest centred square is kept, and resized with Lanczos' filter.

Files may be hostile: sizes are checked before anything is decoded, and large images are decoded one at a time.
"""

import importlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from typing import BinaryIO

import numpy as np
from PIL import Image

from lilliput.system.files import opened
from lilliput.system.machine import return_freed_memory

# Of files that are taken without a look at their content; others are taken where it is an image.
EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".png", ".ppm", ".tif", ".tiff", ".webp"),
)
PLUGGED = {".heic": "pillow-heif", ".heif": "pillow-heif"}  # what Pillow reads with a plug-in alone
# Named, because Pillow goes by content: a file called .jpg could otherwise start Ghostscript.
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION_TAG = 0x0112
TURNS = {  # by the number in the EXIF tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MOST_BYTES, MOST_PIXELS = 2**30, 2**27  # of a file, of an image: others are refused
MOST_SCANNED = 2**33  # pixels times scans of a JPEG: a scan of a hundred bytes passes over all of them
LARGE_BYTES, LARGE_PIXELS = 2**26, 20_000_000  # of a file, of an image: others are decoded side by side
STRIP_PIXELS = 2**22  # converted at once
Finish = Callable[[Image.Image, Image.Image], np.ndarray]  # RGB pixels, and the image that they are of
LARGE_IMAGE = threading.RLock()  # of the thread that decodes one


@cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that are read here: Pillow's makers decide on some, a plug-in on others."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def reads(extension: str) -> bool:
    """Whether files of this extension can be read here: of some only with a plug-in."""
    return extension not in PLUGGED or "HEIF" in formats()


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file begins as an image that can be read here, whatever it is called."""
    with quietly(), suppress(Exception), opened(path) as file, Image.open(file, formats=formats()):
        return True
    return False


def decode(source: str | os.PathLike | bytes, size: int) -> np.ndarray:
    """The image in a file, or in what was in one, as uint8 [3, size, size]; any exception: it cannot be read."""
    return _read(source, size, lambda pixels, image: square(_upright(pixels, image), size))


def decode_whole(path: str | os.PathLike, size: int, *, upright: bool = True) -> np.ndarray:
    """As `decode`, but all of the image squeezed into the square; not `upright`: as it is stored."""
    return _read(path, size, lambda pixels, image: squeezed(_upright(pixels, image) if upright else pixels, size))


def _read(source: str | os.PathLike | bytes, size: int, finish: Finish) -> np.ndarray:
    with _opened(source) as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        if length > MOST_BYTES:
            raise ValueError(f"{length >> 20} MiB, more than {MOST_BYTES >> 20}")
        with one_at_a_time(length > LARGE_BYTES):
            if content := file.read(MOST_BYTES):
                return _decoded(content, size, finish)
    raise ValueError("empty")


def _decoded(content: bytes, size: int, finish: Finish) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=formats()) as image:
        pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS / 1e6:.0f} million")
        scans = content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 1  # Pillow has two names for JPEG
        if scans * pixels > MOST_SCANNED:
            raise ValueError(f"a JPEG of {image.width} x {image.height} pixels in {scans} scans")
        # A JPEG can be decoded at 1/2, 1/4 or 1/8: quick, and at twice the size the filter still has the last word.
        image.draft(None, (2 * size, 2 * size))  # type: ignore[arg-type]
        # One of several scans is held whole, whatever it is decoded at.
        pixels_held = pixels if scans > 1 else image.width * image.height
        with one_at_a_time(pixels_held > LARGE_PIXELS), closing(image):  # closed before it is the next one's turn
            image.load()
            return finish(_rgb(image), image)


def square(image: Image.Image, size: int) -> np.ndarray:
    """The centre of an RGB image as uint8 [3, size, size]."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2  # whole pixels: half a pixel would blur
    box = (left, top, left + side, top + side)
    image = image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return np.asarray(image).transpose(2, 0, 1)


def _opened(source: str | os.PathLike | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else opened(source)


def squeezed(image: Image.Image, size: int) -> np.ndarray:
    """All of an RGB image as uint8 [3, size, size], whatever its shape."""
    image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image).transpose(2, 0, 1)


def sizes(path: str | os.PathLike) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of an image as stored, and upright, from its header."""
    with opened(path) as file, Image.open(file, formats=formats()) as image:
        lies = image.format != "TIFF" and 5 <= _orientation(image) <= 8  # Pillow turns TIFF itself
        return image.size, image.size[::-1] if lies else image.size


def short_sides(sources: Iterable[str | os.PathLike | bytes]) -> list[int]:
    """The shorter side of each image in pixels, from its header; without those that have no readable one."""
    with quietly():
        return [side for source in sources if (side := short_side(source)) is not None]


def short_side(source: str | os.PathLike | bytes) -> int | None:
    """The shorter side of an image in pixels, from its header; None where it has no readable one."""
    with suppress(Exception), _opened(source) as file, Image.open(file, formats=formats()) as image:
        return min(image.size)
    return None


def silence() -> None:
    """As `quietly`, but from here on: for threads that outlast a block."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def quietly() -> Iterator[None]:
    """Without Pillow's warnings, which name no file: what cannot be read is told by its name later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def one_at_a_time(large: bool) -> Iterator[None]:
    """Large images wait for each other, and none leaves its memory with the thread that decoded it."""
    if not large:
        yield
        return
    with LARGE_IMAGE:
        try:
            yield
        finally:
            return_freed_memory()


def _rgb(image: Image.Image) -> Image.Image:
    """To eight bits and three channels; a large one strip by strip, for the steps between take much memory."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        return _converted(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        whole.paste(_converted(image.crop((0, top, width, bottom))), (0, top))
    return whole


def _converted(image: Image.Image) -> Image.Image:
    """Over white where it is transparent."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Grey of more than eight bits, scaled rather than clipped, which is what Pillow's own conversion does."""
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    full = 1.0 if image.mode == "F" else 65535.0  # mode I has 32 bits, but what is stored in it has 16
    if not (low >= 0 and high <= full):
        raise ValueError(f"pixels from {low} to {high}, where 0 to {full:g} was expected")
    grey = np.rint(pixels * (255.0 / full)).astype(np.uint8)
    transparent = image.info.get("transparency")
    return grey if transparent is None else np.where(pixels == transparent, np.uint8(255), grey)


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """`pixels` turned as the camera that wrote `image` says; Pillow has done so already for TIFF."""
    turn = TURNS.get(_orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        number = image.getexif().get(ORIENTATION_TAG, 1)
        return number if isinstance(number, int) else 1
    except Exception:  # damaged notes beside a sound image
        return 1
