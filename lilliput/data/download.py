"""Download a file whose size and MD5 are known: resumed where it broke off, never longer than it should be, and never
taken for whole before its digest is right."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lilliput.data.writing import cannot_write
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home, locked
from lilliput.system.progress import say, task

chunk_bytes = 1 << 20
seconds_without_answer = 30
pause_seconds = 1.0
least_bytes, per_seconds = 2**16, 60.0  # a server that sends less is as good as one that does not answer


class Broken(Exception):
    """The connection failed or ended early; another attempt may go on from there."""


@contextmanager
def downloads() -> Iterator[Path]:
    """The folder of downloads, with no other process at work in it: two would write to one file."""
    folder = home() / "downloads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with locked(folder, waiting=f"another process downloads to {folder}: waiting for it"):
        yield folder


def fetch(url: str, path: Path, *, size: int, md5: str, attempts: int = 3) -> Path:
    """The file of `url` at `path`; gives up after so many attempts in a row that brought nothing new."""
    if _size(path) == size and md5_of(path) == md5:
        return path
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and _downloaded(url, part, size, attempts) != md5:
            part.unlink()  # begun at another time, perhaps with another version of the file
        found = md5 if part.exists() else _downloaded(url, part, size, attempts)
        if found != md5:
            part.unlink()
            raise BadData(f"{url} came with MD5 {found} instead of {md5}: removed it; try again later")
        part.replace(path)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    return path


def md5_of(path: Path) -> str:
    """The MD5 of a file, with progress: the largest take some seconds."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, task(f"checking {path.name}, MiB", _mebibytes(path.stat().st_size)) as advance:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
            advance(1)
    return digest.hexdigest()


def _downloaded(url: str, part: Path, size: int, attempts: int) -> str:
    """Download to `part` what is missing of it; its MD5."""
    most, left = _size(part), attempts
    while True:
        try:
            if _size(part) < size:
                _attempt(url, part, size)
            return md5_of(part)
        except Broken as error:
            now = _size(part)
            left = attempts if now > most else left - 1
            most = max(most, now)
            if left <= 0:
                raise LilliputError(f"cannot download {url}: {error}") from error
            say(f"{url} broke off at {now / 2**20:.1f} MiB ({error}): trying again")
            time.sleep(pause_seconds)


def _attempt(url: str, part: Path, size: int) -> None:
    """Append to `part` what is missing, or start anew when the server cannot give a range."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=seconds_without_answer)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:  # it has less than we have: wrong, as the digest will tell
            return
        said = f"the server says {error.code} {' '.join(error.reason.split())}"
        if error.code < 500:
            raise LilliputError(f"cannot download {url}: {said}") from error
        raise Broken(said) from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: sent on to what is no address
        raise Broken(str(getattr(error, "reason", error)) or type(error).__name__) from error
    with answer:
        if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise LilliputError(f"cannot download {url}: the server sent another part than asked; remove {part}")
        left = size - have if answer.status == 206 else size
        offered = getattr(answer, "length", None)  # None: the server does not say
        if offered is not None and (offered > left or (offered < left and answer.status != 206)):
            # another file, or a page that asks for a password: what is there already stays
            raise LilliputError(f"cannot download {url}: the server offers {offered} bytes where {left} are wanted")
        with (
            part.open("ab" if answer.status == 206 else "wb") as file,
            task(f"downloading {part.stem}, MiB", _mebibytes(left)) as advance,
        ):
            for chunk in _quick_enough(_chunks(answer), url):
                file.write(chunk[:left])
                advance(_mebibytes(left) - _mebibytes(left - len(chunk)))
                left -= len(chunk)
                if left < 0:
                    break
    if left < 0:
        part.unlink()
        raise BadData(f"{url} has more than the {size} bytes that it should have: removed it; try again later")
    if left > 0:
        raise Broken(f"{left} bytes are missing")


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes: were a mebibyte waited for, a cut would lose the part of it that was there."""
    try:
        while chunk := answer.read1(chunk_bytes):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from error


def _quick_enough(chunks: Iterator[bytes], url: str) -> Iterator[bytes]:
    """The chunks, as long as they come at the least rate."""
    began, came = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        came += len(chunk)
        if time.monotonic() - began > per_seconds:
            if came < least_bytes:
                raise LilliputError(
                    f"cannot download {url}: no more than {came} bytes in {per_seconds:.0f} s; what came is kept, and "
                    f"the same command goes on"
                )
            began, came = time.monotonic(), 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mebibytes(size: int) -> int:
    return -(-size // chunk_bytes)
