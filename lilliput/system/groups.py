"""What Linux' control groups leave of memory: a container's limit, and those of a scheduler's jobs, nested in others.

Kernel documentation, admin-guide/cgroup-v2 ("Memory Interface Files") and cgroup-v1/memory.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC, MOUNTED = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class Version(NamedTuple):
    """What the files of a group are called."""

    limit: str
    usage: str
    cache: tuple[str, ...]  # of memory.stat: pages of files, which make way


SECOND = Version("memory.max", "memory.current", ("inactive_file", "active_file"))
FIRST = Version("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def left_by_groups() -> Iterator[int]:
    """Bytes that each group which this process is in could still give: its limit less what it uses but can give up."""
    for version, folder, top in _own_groups():
        while True:
            with suppress(OSError, ValueError):  # "max" where there is no limit, and outside of its container no folder
                used = int(_read(folder / version.usage)) - sum(_cache(folder, version))
                yield max(0, int(_read(folder / version.limit)) - max(0, used))
            if folder == top:
                break
            folder = folder.parent


def _own_groups() -> Iterator[tuple[Version, Path, Path]]:
    """Of each hierarchy with limits of memory: this process's group and the top."""
    lines: list[str] = []
    with suppress(OSError):
        lines = _read(PROC).splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for top in (MOUNTED, MOUNTED / "unified"):
                yield SECOND, top / path.lstrip("/"), top
        elif "memory" in controllers.split(","):
            yield FIRST, MOUNTED / "memory" / path.lstrip("/"), MOUNTED / "memory"


def _cache(folder: Path, version: Version) -> Iterator[int]:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in version.cache:
            yield int(value)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
