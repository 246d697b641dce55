"""A folder of an S3-compatible object store, by botocore (extra `remote`): objects written whole, on conditions.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html. Credentials, region and endpoint are
botocore's own settings (AWS_ENDPOINT_URL, ~/.aws). What a broken connection interrupts is tried again.
"""

import secrets
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, final

from lilliput.errors import BadSetting, LilliputError, wanted

T = TypeVar("T")
SCHEME = "s3://"
TOKEN = "writer"  # in an object's metadata: which write it is from
SECONDS_WITHOUT_ANSWER, ATTEMPTS = 30, 6  # of each of botocore's
PAUSES = (0.1, 0.5, 2.0, 0.0)  # seconds after each try of ours
CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
ABSENT = ("NoSuchKey", "404")


class Conflict(Exception):
    """The object is not of the version that the write was for."""


class Object(NamedTuple):
    """An object as it was read."""

    content: bytes
    version: str
    age: float  # seconds since it was written, by the store's own clock
    token: str  # of the write


@final
class Bucket:
    """The objects whose names begin as the url says; their names are told without that."""

    def __init__(self, url: str):
        self.url = url
        self.name, _, path = url.removeprefix(SCHEME).rstrip("/").partition("/")
        if not self.name:
            raise BadSetting(f"{url} names no bucket: give s3://BUCKET/FOLDER")
        self.prefix = f"{path}/" if path else ""

    @cached_property
    def _client(self) -> Any:
        session, config = (wanted(f"botocore.{name}", extra="remote") for name in ("session", "config"))
        settings = config.Config(
            retries={"max_attempts": ATTEMPTS, "mode": "standard"},
            connect_timeout=SECONDS_WITHOUT_ANSWER,
            read_timeout=SECONDS_WITHOUT_ANSWER,
        )
        client = session.get_session().create_client("s3", config=settings)
        client.meta.events.register_last("before-call.s3", _without_expecting)
        return client

    def versions(self, folder: str = "", *, below: bool = True) -> dict[str, str]:
        """Name -> version of the objects in a folder ("" or one that ends in /), and of those `below` it too."""
        pages = self._client.get_paginator("list_objects_v2")
        within = {"Bucket": self.name, "Prefix": self.prefix + folder, **({} if below else {"Delimiter": "/"})}

        def ask() -> dict[str, str]:
            found: dict[str, str] = {}
            for page in pages.paginate(**within):
                if "IsTruncated" not in page:  # an answer without its body would be an empty folder
                    raise ValueError("an answer was cut off before its list")
                found |= {entry["Key"].removeprefix(self.prefix): entry["ETag"] for entry in page.get("Contents", [])}
            return found

        return self._asked(ask)

    def read(self, name: str) -> Object | None:
        """The object, or None where there is none."""

        def ask() -> Object:
            answer = self._client.get_object(Bucket=self.name, Key=self.prefix + name)
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            age = (now - answer["LastModified"]).total_seconds()
            content = answer["Body"].read()
            if len(content) != answer["ContentLength"]:  # the header may be what was cut off
                raise ValueError(f"{len(content)} bytes of {answer['ContentLength']} came")
            return Object(content, _whole_version(answer), age, answer.get("Metadata", {}).get(TOKEN, ""))

        return self._asked(ask, absent=lambda: None)

    def write(self, name: str, content: bytes, *, only: str | None = None) -> str:
        """Write an object whole; its version. `only`: where it is of that version, or "" where there is none.

        Raises Conflict where it is not. A write whose answer was lost, and that was tried again, knows its own.
        """
        token, key = secrets.token_hex(8), self.prefix + name
        condition = {} if only is None else {"IfMatch": only} if only else {"IfNoneMatch": "*"}
        put = {"Bucket": self.name, "Key": key, "Body": content, "Metadata": {TOKEN: token}, **condition}
        try:
            return self._asked(lambda: _whole_version(self._client.put_object(**put)))
        except Conflict:
            there = self.read(name)  # whole: of the headers alone nobody knows whether all came
            if there and there.token == token:
                return there.version
            raise

    def remove(self, name: str) -> None:
        self._asked(lambda: self._client.delete_object(Bucket=self.name, Key=self.prefix + name))

    def _asked(self, ask: Callable[[], T], *, absent: Callable[[], Any] | None = None) -> Any:
        """What the store answers; LilliputError, Conflict, or `absent()` where there is no such object.

        botocore tries again what it sees broken, but takes an answer that is cut off among its headers for whole.
        """
        for pause in PAUSES:
            try:
                return ask()
            except Exception as error:  # botocore's own kinds, its HTTP library's, and what a torn answer makes of them
                code = (getattr(error, "response", None) or {}).get("Error", {}).get("Code")
                if code in ABSENT and absent:
                    return absent()
                if code in (*CONFLICTS, *ABSENT):  # absent: it is to be of a version, and is not there any more
                    raise Conflict(f"{self.url}: {error}") from None
                last = error
            time.sleep(pause)
        raise LilliputError(
            f"{self.url} does not take part ({' '.join(str(last).split())}): what was saved before is whole there and "
            f"here, and the same command goes on"
        ) from last


def _whole_version(answer: dict[str, Any]) -> str:
    """The version that an answer tells, in quotation marks; ValueError where it was cut off."""
    version = answer["ETag"]
    if len(version) < 3 or not version.endswith('"'):
        raise ValueError(f"an answer was cut off in its version {version}")
    return version


def _without_expecting(params: dict[str, Any], **_: Any) -> None:
    """botocore waits for ever where a connection is cut within the answer 100 Continue: it is not asked for."""
    params["headers"].pop("Expect", None)
