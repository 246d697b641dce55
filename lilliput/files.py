"""Files written whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lilliput.errors import BadData, LilliputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LilliputError(f"cannot write {path}: {error.strerror}; what was saved before is whole") from None


def write_json(path: Path, content: Any) -> None:
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content; BadData naming the file if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadData(f"{path} is damaged ({error}); remove it to start over") from None


def has_locks() -> bool:
    """Whether `locked` keeps others out on this system."""
    return fcntl is not None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone among the processes that ask for this folder, within the block; a lock dies with its owner."""
    if fcntl is None:
        yield
        return
    with open(folder / ".lock", "w") as file:
        with suppress(OSError):  # some network file systems have none
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
