"""Download a file whose MD5 is known: resumed where it broke off, never longer than it should be, and never taken for
whole before its digest is right."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

from lilliput.errors import BadData, LilliputError
from lilliput.system.files import cannot_write, home
from lilliput.system.locks import locked
from lilliput.system.progress import say, task

CHUNK_BYTES = 1 << 20
SECONDS_WITHOUT_ANSWER = 30
PAUSE_SECONDS = 1.0
LEAST_BYTES, PER_SECONDS = 2**16, 60.0  # a server that sends less is as good as one that does not answer


class Broken(Exception):
    """The connection failed or ended early; another attempt may go on from there."""


class Unreachable(LilliputError):
    """So many attempts in a row brought nothing new; what is there is as it was."""


Ask = Callable[[str, int], Any]
"""(url, start) -> as `answer`."""


class _ClosingRedirects(urllib.request.HTTPRedirectHandler):
    """As urllib's own, which leaves the answer open where the address that it sends on to cannot be read."""

    def http_error_302(self, req, fp, code, msg, headers):
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


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


def fetch(
    url: str, path: Path, *, md5: str, size: int | None = None, most_bytes: int | None = None, attempts: int = 3
) -> Path:
    """The file of `url` at `path`, of this MD5 and so many bytes; else as many as its server says, up to `most_bytes`.

    LilliputError after so many attempts in a row that brought nothing new; BadData where it is another file.
    """
    if path.exists() and size in (None, _size(path)) and md5_of(path) == md5:
        return path
    if size is None:
        size = _offered(url, most_bytes, attempts)
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and _downloaded(url, part, size, attempts) != md5:
            part.unlink()  # begun at another time, perhaps with another version of the file
        actual = md5 if part.exists() else _downloaded(url, part, size, attempts)
        if actual != md5:
            part.unlink()
            raise BadData(f"{url} came with MD5 {actual} instead of {md5}: removed it; try again later")
        part.replace(path)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    return path


def md5_of(path: Path) -> str:
    """The MD5 of a file, with progress: the largest take some seconds."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, task(f"checking {path.name}, MiB", _mebibytes(path.stat().st_size)) as advance:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            advance(1)
    return digest.hexdigest()


def _offered(url: str, most_bytes: int | None, attempts: int) -> int:
    """How many bytes the server says that the file has; LilliputError where it does not say, or says too many."""
    size, _ = offered(url, attempts)
    if most_bytes is not None and size > most_bytes:
        raise LilliputError(f"cannot download {url}: the server offers {size} bytes, more than {most_bytes}")
    return size


def offered(url: str, attempts: int, ask: Ask | None = None) -> tuple[int, Message]:
    """How many bytes the server says that the file has, and all else that it says; LilliputError where it does not."""
    pause = PAUSE_SECONDS
    for attempts_left in reversed(range(attempts)):
        try:
            response = (ask or answer)(url, 0)
            break
        except Broken as error:
            if not attempts_left:
                raise Unreachable(f"cannot download {url}: {error}") from error
            time.sleep(pause)
            pause *= 2
    assert response is not None  # only a range can be refused
    with response:
        said = response.headers.get("Content-Length", "")
    if not said.isdecimal():
        raise LilliputError(f"cannot download {url}: the server does not say how long it is")
    return int(said), response.headers


def _downloaded(url: str, part: Path, size: int, attempts: int) -> str:
    """Download to `part` what is missing of it; its MD5."""
    complete(url, part, size, attempts)
    return md5_of(part)


def complete(url: str, part: Path, size: int, attempts: int, ask: Ask | None = None) -> None:
    """Download to `part` what is missing of so many bytes, each pause twice as long as the one before it.

    Unreachable after so many attempts in a row that brought nothing new.
    """
    longest, attempts_left, pause = _size(part), attempts, PAUSE_SECONDS
    while True:
        try:
            if _size(part) < size:
                _attempt(url, part, size, ask or answer)
            return
        except Broken as error:
            length = _size(part)
            if length > longest:
                longest, attempts_left, pause = length, attempts, PAUSE_SECONDS
            else:
                attempts_left -= 1
            if attempts_left <= 0:
                raise Unreachable(f"cannot download {url}: {error}") from error
            say(f"{url} broke off at {length / 2**20:.1f} MiB ({error}): trying again")
            time.sleep(pause)
            pause *= 2


def _attempt(url: str, part: Path, size: int, ask: Ask) -> None:
    """Append to `part` what is missing, or start anew when the server cannot give a range."""
    start = _size(part)
    response = ask(url, start)
    if response is None:
        return
    with response:
        resumed = response.status == 206
        missing = size - start if resumed else size
        _check_offer(response, url, part, start, missing)
        missing -= _receive(response, url, part, missing, resumed)
    if missing < 0:
        part.unlink()
        raise BadData(f"{url} has more than the {size} bytes that it should have: removed it; try again later")
    if missing > 0:
        raise Broken(f"{missing} bytes are missing")


def answer(url: str, start: int) -> http.client.HTTPResponse | None:
    """The server's answer to the wish for all from byte `start` on; None where it has less than that."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        return urllib.request.build_opener(_ClosingRedirects).open(request, timeout=SECONDS_WITHOUT_ANSWER)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == 416:  # what we have is wrong, as the digest will tell
            return None
        reason = f"the server says {error.code} {' '.join(error.reason.split())}"
        if error.code < 500:
            raise LilliputError(f"cannot download {url}: {reason}") from error
        raise Broken(reason) from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: sent on to what is no address
        raise Broken(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _check_offer(response: http.client.HTTPResponse, url: str, part: Path, start: int, missing: int) -> None:
    """LilliputError where the server is about to send something else: what is there already stays."""
    resumed = response.status == 206
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise LilliputError(f"cannot download {url}: the server sent another part than asked; remove {part}")
    offered = getattr(response, "length", None)  # None: the server does not say
    if offered is not None and (offered > missing or (offered < missing and not resumed)):
        # another file, or a page that asks for a password
        raise LilliputError(f"cannot download {url}: the server offers {offered} bytes where {missing} are wanted")


def _receive(response: http.client.HTTPResponse, url: str, part: Path, missing: int, resumed: bool) -> int:
    """Write what comes to `part`, no more than is missing; how many bytes came, in excess too."""
    received = 0
    with (
        part.open("ab" if resumed else "wb") as file,
        task(f"downloading {part.stem}, MiB", _mebibytes(missing)) as advance,
    ):
        for chunk in _quick_enough(_chunks(response), url):
            file.write(chunk[: missing - received])
            advance(_mebibytes(missing - received) - _mebibytes(missing - received - len(chunk)))
            received += len(chunk)
            if received > missing:
                break
    return received


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes: were a mebibyte waited for, a cut would lose the part of it that was there."""
    try:
        while chunk := response.read1(CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from error


def _quick_enough(chunks: Iterator[bytes], url: str) -> Iterator[bytes]:
    """The chunks, as long as they come at the least rate."""
    began, received = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        received += len(chunk)
        if time.monotonic() - began > PER_SECONDS:
            if received < LEAST_BYTES:
                raise LilliputError(
                    f"cannot download {url}: no more than {received} bytes in {PER_SECONDS:.0f} s; "
                    f"what came is kept, and the same command goes on"
                )
            began, received = time.monotonic(), 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mebibytes(size: int) -> int:
    return -(-size // CHUNK_BYTES)
