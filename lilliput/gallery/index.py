"""Features of a folder's images, computed once and kept at home: a killed command goes on, a later one finds the rest.

They lie in parts, one for each batch: a file of tensors, in whose header the images stand. An image is known by its
name, size and time of change; what is new or has changed joins in parts of its own.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from lilliput.data.filling import reason_of
from lilliput.data.tree import existing_folder, images_below
from lilliput.data.walk import File, Walk
from lilliput.errors import BadData
from lilliput.gallery.lens import Lens
from lilliput.images.decode import decode, quietly
from lilliput.system import signals
from lilliput.system.files import clear_drafts, home, opened, set_aside
from lilliput.system.locks import locked
from lilliput.system.machine import cores
from lilliput.system.progress import say, task
from lilliput.system.records import json_digest
from lilliput.system.tensors import read_tensors, write_tensors

FORMAT = 1
SMALL = 32  # pixels a side of the grey pictures
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
BLOCK = 1024  # rows that are read at once
PARTS_IN_MEMORY = 64
T = TypeVar("T")


class Seen(NamedTuple):
    """An image that has been looked at, and where what was seen of it lies."""

    file: File
    sha256: str  # of the file's content
    part: Path
    row: int


class Unread(NamedTuple):
    file: File
    reason: str


@dataclass(frozen=True)
class Index:
    """What an encoder has seen of a folder: its images sorted by name, and the files that could not be read."""

    root: Path
    images: list[Seen]
    unread: list[Unread]
    dim: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """Of the files below the root."""
        return [image.file.name for image in self.images]

    def blocks(self, kind: str = "features") -> Iterator[np.ndarray]:
        """Of all images in their order, some rows at a time: features [B, dim], or grey pictures uint8 [B, 32, 32]."""
        read = lru_cache(PARTS_IN_MEMORY)(lambda part: read_tensors(part)[0][kind].numpy())
        for images in chunks_of(self.images, BLOCK):
            yield np.stack([read(image.part)[image.row] for image in images])

    def whole(self, kind: str = "features") -> np.ndarray:
        """All of the blocks in memory."""
        return np.concatenate(list(self.blocks(kind)))


def gather(folder: str | os.PathLike, lens: Lens) -> Index:
    """The index of all images below a folder, at any depth; only what is not known yet is looked at.

    BadData where none can be read. Those that cannot are counted aloud; they are tried again the next time.
    """
    root = existing_folder(folder)
    walk = Walk()
    files = images_below(root, walk)
    walk.tell(root, len(files))
    place = home() / "indexes" / f"{_plain(root.name)}-{json_digest([FORMAT, str(root), lens.digest])[:16]}"
    place.mkdir(parents=True, exist_ok=True)
    with locked(place, waiting=f"waiting for another process that looks at {root}"):
        clear_drafts(place)
        parts = list(_parts_in(place))
        seen = {image.file for part in parts for image in part.images}
        failed = {unread.file for part in parts for unread in part.unread} - seen
        new = [file for file in files if file not in seen and file not in failed]
        # what failed comes last: it would shift the batches of what a killed command had left to do
        chunks = chunks_of(new, lens.batch) + chunks_of([file for file in files if file in failed], lens.batch)
        last = max((_number(part.path) for part in parts), default=0)
        for number, part in enumerate(_looked_at(root, chunks, lens), last + 1):
            again = not part.images and failed.issuperset(unread.file for unread in part.unread)
            parts.append(part if again else part.written(place / f"part-{number:06d}.safetensors"))
        index = _joined(root, files, parts, lens.dim)
        _forget({image.part for image in index.images}, parts)
    _tell(index)
    return index


class Part(NamedTuple):
    """A batch that was looked at: in a file, or about to be."""

    images: list[Seen]
    unread: list[Unread]
    tensors: dict[str, torch.Tensor] | None  # None for those in a file
    path: Path

    def written(self, path: Path) -> "Part":
        rows = [[*image.file, image.sha256] for image in self.images]
        header = {"images": rows, "unread": [[*file, reason] for file, reason in self.unread]}
        write_tensors(path, self.tensors or {}, {"format": FORMAT, **header})
        return Part([image._replace(part=path) for image in self.images], self.unread, None, path)


def _parts_in(place: Path) -> Iterator[Part]:
    """Those that are whole; damaged ones are set aside, and their images looked at again."""
    for path in sorted(place.glob("part-*.safetensors")):
        try:
            tensors, header = read_tensors(path)
            images = [Seen(File(*row[:3]), row[3], path, number) for number, row in enumerate(header["images"])]
            unread = [Unread(File(*row[:3]), row[3]) for row in header["unread"]]
            if len(tensors["features"]) != len(images):
                raise BadData("it has not a row for each of its images")
        except (BadData, KeyError, TypeError, IndexError) as error:
            set_aside(path, error if isinstance(error, BadData) else f"its header lacks {error}")
            continue
        yield Part(images, unread, None, path)


def chunks_of(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in their order, so many at a time."""
    return [items[first : first + size] for first in range(0, len(items), size)]


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("part-"))


def _joined(root: Path, files: Iterable[File], parts: Iterable[Part], dim: int) -> Index:
    images = {image.file: image for part in parts for image in part.images}
    reasons = {unread.file: unread for part in parts for unread in part.unread}
    there = list(files)
    unread = [reasons[file] for file in there if file not in images]
    return Index(root, [images[file] for file in there if file in images], unread, dim)


def _forget(wanted: set[Path], parts: Iterable[Part]) -> None:
    """Remove parts of which no image is there any more."""
    for part in parts:
        if part.images and part.path not in wanted:
            part.path.unlink(missing_ok=True)


def _tell(index: Index) -> None:
    if not index.unread:
        return
    (file, reason), *others = index.unread
    first = f"{file.name!r} ({reason}){' ...' if others else ''}"
    total = len(index.images) + len(index.unread)
    if not index.images:
        raise BadData(f"none of the {total} images in {index.root} can be read; the first, {first}")
    say(f"{index.root}: {len(index.unread)} of {total} images cannot be read and are passed over: {first}")


Read = tuple[np.ndarray, str] | str  # pixels uint8 [3, H, H] and the file's digest; or why there are none


def read_image(path: Path, size: int) -> Read:
    """The image at a path as an encoder of this size gets it, and the SHA-256 of its file; else the reason."""
    try:
        pixels = decode(path, size)
        with opened(path) as file:
            return pixels, hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:  # what a damaged file makes Pillow raise is not documented
        return reason_of(error)


def _looked_at(root: Path, chunks: list[Sequence[File]], lens: Lens) -> Iterator[Part]:
    """Chunk by chunk; the next one is decoded while the encoder looks at this one."""
    total = sum(map(len, chunks))
    if not total:
        return
    with task(f"features of {root.name}", total) as advance, ThreadPoolExecutor(cores()) as pool, quietly():

        def begun(chunk: Iterable[File]) -> list[Future[Read]]:
            return [pool.submit(read_image, root / file.name, lens.image_size) for file in chunk]

        try:
            ahead = begun(chunks[0])
            for chunk, following in zip_longest(chunks, chunks[1:], fillvalue=()):
                signals.check(f"stopped before all images of {root} were looked at")
                now, ahead = ahead, begun(following)
                yield _seen(chunk, [job.result() for job in now], lens)
                advance(len(chunk))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C should not wait for the rest
            raise


def _seen(chunk: Sequence[File], results: list[Read], lens: Lens) -> Part:
    """What was read of a chunk, before the encoder; what was not stays black in the batch, and is left out after it."""
    read = {row: result for row, result in enumerate(results) if not isinstance(result, str)}
    unread = [Unread(chunk[row], result) for row, result in enumerate(results) if isinstance(result, str)]
    pixels = np.zeros((len(chunk), 3, lens.image_size, lens.image_size), np.uint8)
    for row, (image, _) in read.items():
        pixels[row] = image
    rows = list(read)
    tensors = {
        "features": torch.from_numpy(lens.features(pixels)[rows]),
        "grey": torch.from_numpy(grey(pixels[rows])),
    }
    nowhere = Path()
    images = [Seen(chunk[row], digest, nowhere, place) for place, (row, (_, digest)) in enumerate(read.items())]
    return Part(images, unread, tensors, nowhere)


def grey(pixels: np.ndarray) -> np.ndarray:
    """uint8 [B, 3, H, H] -> their small grey pictures, uint8 [B, 32, 32]: means over areas."""
    luma = np.tensordot(pixels.astype(np.float32), np.array(LUMA, np.float32), axes=(1, 0))  # [B, H, H]
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(luma), SMALL)
    return small.round().to(torch.uint8).numpy()


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60] or "images"
