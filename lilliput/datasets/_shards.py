"""Shards: tar files of images in WebDataset's layout, streamed as a pool without labels.

Named as 'shards/{000..099}.tar', 'shards/*.tar', or by address: https://, and s3://, gs:// and others by fsspec.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from lilliput.data.download import Unreachable
from lilliput.data.remote import is_remote
from lilliput.data.shards import Index, Shard, indexed, sides_of, tar_of
from lilliput.data.shelf import Shelf
from lilliput.data.store import DEFAULT_SIZE, Data, chosen_size
from lilliput.data.stream import Stream
from lilliput.errors import BadData, BadSetting, CannotWrite, LilliputError
from lilliput.images.decode import quietly
from lilliput.system.progress import Aside, say, task
from lilliput.system.visible import counted, visible

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST_SHARDS = 1_000_000
AT_ONCE = 8  # shards looked up or brought
LONGEST_NAME = 50  # with technique and backbone it must still be a folder's name
SHARDS_MEASURED = 16  # by whose images the usual size is chosen
EXAMPLES = 3


def means_shards(name: str) -> bool:
    """Whether the name of data is one of shards."""
    if is_remote(name) or name.startswith("file://"):
        return True
    return (name.endswith(".tar") or bool(BRACES.search(name))) and not Path(name).expanduser().is_dir()


def prepare(name: str, *, image_size: int | None = None, cache_gib: float | None = None) -> Data:
    """The images of the shards of that name, by an index that is made of each once.

    `cache_gib`: how much of shards from elsewhere may stay on the disk; without it those in use alone. A shard that is
    damaged or missing is passed over; raises BadData where all are, Unreachable where a server does not answer.
    """
    if cache_gib is not None and not cache_gib >= 0:
        raise BadSetting(f"a cache of {cache_gib:g} GiB: give 0 or more")
    sources, shelf = list(_sources(name)), Shelf(int((cache_gib or 0) * 2**30))
    found, bad = _opened(sources, shelf)
    for source, why in list(bad.items())[:EXAMPLES]:
        say(f"passed over {source}: {why}")
    if len(bad) > EXAMPLES:
        say(f"passed over {len(bad) - EXAMPLES} more of {len(sources)} shards")
    if not found:
        raise BadData(f"no shard of {name} can be read: {next(iter(bad.values()))}")
    sides = sides_of(found, SHARDS_MEASURED) if image_size is None else np.array([DEFAULT_SIZE])
    size = chosen_size(image_size, int(np.quantile(sides, 0.05, method="lower")))
    label = f"shards-{_plain(name)}"
    return Data(label, Stream(label, name, found, size, shelf), None, None)


def _plain(name: str) -> str:
    """The pattern as a part of a folder's name: the folder of the shards and what is common to theirs."""
    parts = PurePosixPath(name.partition("://")[2] or name).parts[-2:]
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", visible("-".join(parts).removesuffix(".tar")))
    return text.strip("-.")[-LONGEST_NAME:] or "tar"


def _sources(name: str) -> Iterator[str]:
    """The shards that a pattern names, in order."""
    count = 0
    for source in _braced(name.removeprefix("file://")):
        if is_remote(source) or "*" not in source:
            matching = [source if is_remote(source) else os.path.abspath(os.path.expanduser(source))]
        else:
            place = Path(source).expanduser()
            matching = sorted(map(str, place.parent.absolute().glob(place.name)))
        for path in matching:
            if (count := count + 1) > MOST_SHARDS:
                raise BadSetting(f"{name} names more than {MOST_SHARDS} shards")
            yield path
    if not count:
        raise BadData(f"there is no {name}")


def _braced(text: str) -> Iterator[str]:
    """With each {a,b} and {000..099} in it as one of what it stands for, from the left."""
    braces = BRACES.search(text)
    if not braces:
        yield text
        return
    before, inner, after = text[: braces.start()], braces[1], text[braces.end() :]
    if numbers := RANGE.fullmatch(inner):
        first, last = numbers.groups()
        if int(last) < int(first):
            raise BadSetting(f"{{{inner}}} counts down: write {{{last}..{first}}}")
        inside: Iterator[str] = (f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1))
    else:
        inside = iter(inner.split(","))
    for part in inside:
        for rest in _braced(after):
            yield before + part + rest


def _opened(sources: list[str], shelf: Shelf) -> tuple[list[Shard], dict[str, str]]:
    """Those that can be used, in order, and why the others cannot."""
    found: list[Shard] = []
    bad: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    others: Counter[str] = Counter()
    aside = Aside()
    pool = ThreadPoolExecutor(AT_ONCE, initializer=aside.hear)
    try:
        with quietly(), task("looking at the shards", len(sources)) as advance:
            for source, looked_at in zip(sources, pool.map(partial(_looked_at, shelf), sources), strict=True):
                advance(1)
                aside.say()
                if isinstance(looked_at, str):
                    bad[source] = looked_at
                    continue
                shard, index = looked_at
                found.append(shard)
                unreadable |= index.unreadable
                others.update(index.others)
    finally:
        pool.shutdown(cancel_futures=True)
    if unreadable:
        name, why = next(iter(unreadable.items()))
        say(f"passed over {counted(len(unreadable), 'image(s)')} in the shards: {name!r} ({why})")
    if others:
        kinds = ", ".join(kind for kind, _ in others.most_common(EXAMPLES))
        say(f"passed over {others.total()} files in the shards that are no images ({kinds})")
    return found, bad


def _looked_at(shelf: Shelf, source: str) -> tuple[Shard, Index] | str:
    """A shard and its index, or why there is none."""
    try:
        tar = tar_of(source)
        index = indexed(tar, shelf.opened)
        return Shard(tar, len(index.names), index.digest), index
    except (Unreachable, CannotWrite, BadSetting):  # not the shard's fault: without it the pool would be another
        raise
    except LilliputError as error:
        return str(error)
