"""Download a file whose MD5 is known: resumed where it broke off, never taken for whole before its digest is right."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lilliput.errors import BadData, LilliputError
from lilliput.progress import say, task
from lilliput.store import cannot_write

chunk_bytes = 1 << 20
seconds_without_answer = 30
pause_seconds = 1.0


class Broken(Exception):
    """The connection failed or ended early; another attempt may go on from there."""


def fetch(url: str, path: Path, *, md5: str, attempts: int = 3) -> Path:
    """The file of `url` at `path`; gives up after so many attempts in a row that brought nothing new."""
    if path.exists() and md5_of(path) == md5:
        return path
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and _downloaded(url, part, attempts) != md5:
            part.unlink()  # begun at another time, perhaps with another version of the file
        found = md5 if part.exists() else _downloaded(url, part, attempts)
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


def _downloaded(url: str, part: Path, attempts: int) -> str:
    """Download to `part` what is missing of it; its MD5."""
    most, left = _size(part), attempts
    while True:
        try:
            _attempt(url, part)
            return md5_of(part)
        except Broken as error:
            now = _size(part)
            left = attempts if now > most else left - 1
            most = max(most, now)
            if left <= 0:
                raise LilliputError(f"cannot download {url}: {error}") from error
            say(f"{url} broke off at {now / 2**20:.1f} MiB ({error}): trying again")
            time.sleep(pause_seconds)


def _attempt(url: str, part: Path) -> None:
    """Append to `part` what is missing, or start anew when the server cannot give a range."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=seconds_without_answer)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing is left to send: whole, or wrong as the digest will tell
            return
        if error.code < 500:
            raise LilliputError(f"cannot download {url}: the server says {error.code} {error.reason}") from error
        raise Broken(f"the server says {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(getattr(error, "reason", error))) from error
    with answer:
        if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise LilliputError(f"cannot download {url}: the server sent another part than asked; remove {part}")
        wanted = int(answer.headers.get("Content-Length", 0))
        with (
            part.open("ab" if answer.status == 206 else "wb") as file,
            task(f"downloading {part.stem}, MiB", _mebibytes(wanted)) as advance,
        ):
            for chunk in _chunks(answer):
                file.write(chunk)
                wanted -= len(chunk)
                advance(1)
    if wanted > 0:
        raise Broken(f"{wanted} bytes are missing")


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := answer.read(chunk_bytes):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mebibytes(size: int) -> int:
    return -(-size // chunk_bytes)
