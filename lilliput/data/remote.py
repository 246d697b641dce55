"""Files of a web server (http, https), or of whatever else fsspec knows by address (s3, gs, ..., extra `remote`).

What broke off is asked for again from where it broke, after pauses that grow, and never joined to another version.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lilliput.data.download import Ask, Broken, answer, complete, offered
from lilliput.errors import BadSetting, LilliputError, wanted

ATTEMPTS = 5  # in a row that bring nothing new: 15 seconds of pauses
TAGS = ("ETag", "Last-Modified")
READ_AHEAD = 2**24  # bytes that fsspec asks for at once


class Remote(NamedTuple):
    """A file elsewhere, in the version that it had when it was looked up."""

    url: str
    size: int  # bytes
    tag: str  # that changes with its content, as far as its server tells


def is_remote(name: str) -> bool:
    """Whether a name is an address of another place."""
    return "://" in name and not name.startswith("file://")


def look_up(url: str) -> Remote:
    """What there is at the address; Unreachable where nobody answers, LilliputError where there is nothing."""
    size, said = offered(url, ATTEMPTS, _ask(url))
    return Remote(url, size, _tag(said))


def bring(remote: Remote, path: Path) -> None:
    """The file at `path`, whole or not at all; what came of it before is kept beside it, as `path`.part."""
    part = path.with_name(f"{path.name}.part")
    complete(remote.url, part, remote.size, ATTEMPTS, partial(_same_version, remote))
    part.replace(path)


def _same_version(remote: Remote, url: str, start: int) -> Any:
    response = _ask(url)(url, start)
    if response is not None and _tag(response.headers) != remote.tag:
        response.close()
        raise LilliputError(f"{url} has changed since it was looked up; start again")
    return response


def _tag(said: Any) -> str:
    return next((said[name] for name in TAGS if said.get(name)), "")


def _ask(url: str) -> Ask:
    return answer if url.startswith(("http://", "https://")) else _opened


class _Answer(AbstractContextManager):
    """A file of fsspec's, from byte `start` on, as `answer` gives one of a web server."""

    def __init__(self, file: Any, size: int, tag: str, start: int):
        self.file, self.status, self.length = file, 206 if start else 200, size - start
        self.headers = {"Content-Length": str(size), "ETag": tag, "Content-Range": f"bytes {start}-"}
        file.seek(start)

    def read1(self, count: int) -> bytes:
        try:
            return self.file.read(count)
        except Exception as error:  # each kind of store has its own
            raise Broken(str(error) or type(error).__name__) from error

    def close(self) -> None:
        self.file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(url: str, start: int) -> _Answer:
    """As `answer`, by fsspec."""
    core = wanted("fsspec.core", extra="remote")
    try:
        system, path = core.url_to_fs(url)
    except ImportError as error:  # of the library for this kind of address
        raise BadSetting(f"{url}: {error}") from None
    except ValueError as error:
        raise BadSetting(f"{url} is no address that fsspec knows ({error})") from None
    try:
        system.invalidate_cache()
        told = system.info(path)
        if told["type"] == "directory":
            raise IsADirectoryError
        file = system.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead")
        return _Answer(file, told["size"], _version(told), start)
    except FileNotFoundError:
        raise LilliputError(f"there is no {url}") from None
    except IsADirectoryError:
        raise LilliputError(f"{url} is a folder: name the shards in it, as {url}/{{000..099}}.tar") from None
    except PermissionError as error:
        raise LilliputError(f"{url} may not be read ({error}); give the right to, or the credentials") from None
    except Exception as error:
        raise Broken(str(error) or type(error).__name__) from error


def _version(told: Mapping[str, Any]) -> str:
    names = ("ETag", "etag", "LastModified", "mtime", "created")
    return next((str(told[name]) for name in names if told.get(name)), "")
