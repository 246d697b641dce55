"""What fills a store: images decoded from files, or raw ones of an array."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from lilliput.data.writing import Fill, Skipped
from lilliput.images.decode import MOST_PIXELS, decode, quietly, square
from lilliput.system.machine import cores
from lilliput.system.progress import task

ROWS_PER_JOB = 32


def fill_from_files(files: Sequence[Path | bytes], names: Sequence[str], what: str) -> Fill:
    """A `fill` for `write_store` that decodes `files`, paths or what is in them; those that cannot be read are given
    up under their `names`."""

    def fill(images: np.ndarray, _masks: np.ndarray | None) -> Skipped:
        skipped: Skipped = {}

        def decode_row(row: int) -> None:
            try:
                images[row] = decode(files[row], images.shape[-1])
            except Exception as error:  # what a damaged file makes Pillow raise is not documented
                skipped[row] = {"file": names[row], "reason": reason_of(error)}

        with quietly():
            in_parallel(decode_row, len(files), what)
        return skipped

    return fill


def fill_from_array(source: np.ndarray, rows: np.ndarray, what: str) -> Fill:
    """A `fill` for `write_store` from those `rows` of raw square images, uint8 [N, H, H, 3]."""

    def fill(images: np.ndarray, _masks: np.ndarray | None) -> None:
        def convert_row(row: int) -> None:
            raw = np.ascontiguousarray(source[rows[row]])
            images[row] = square(Image.fromarray(raw), images.shape[-1])

        in_parallel(convert_row, len(rows), what)

    return fill


def in_parallel(work: Callable[[int], None], count: int, what: str) -> None:
    """Call `work(row)` for all rows on all cores; threads, as Pillow lets go of Python's lock while it decodes."""
    with task(what, count) as advance, ThreadPoolExecutor(cores()) as pool:

        def job(start: int) -> int:
            rows = range(start, min(start + ROWS_PER_JOB, count))
            for row in rows:
                work(row)
            return len(rows)

        try:
            for done in pool.map(job, range(0, count, ROWS_PER_JOB)):
                advance(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C should not wait for the rest
            raise


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, without the path, which the file's name beside it tells."""
    match error:
        case Image.UnidentifiedImageError():
            return "no image that Pillow knows"
        case Image.DecompressionBombError():
            return f"more than {MOST_PIXELS / 1e6:.0f} million pixels"
        case OSError(strerror=str(reason)):
            return reason
    return str(error) or type(error).__name__
