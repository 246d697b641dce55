"""JSON records under a seal, which is their own digest: written whole, and read by the kinds of their values."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lilliput.errors import BadData
from lilliput.system.files import read_whole, write_whole

SEAL = "sha256"  # of everything else in a JSON file


def write_json(path: Path, content: dict[str, Any]) -> None:
    """With the digest of the content as its last entry."""
    text = json.dumps({**content, SEAL: seal(content)}, indent=2, ensure_ascii=False)
    write_whole(path, (text + "\n").encode("utf-8", "backslashreplace"))


def read_json(path: Path) -> dict[str, Any]:
    """The content without its seal; BadData naming the file if it is missing, no JSON, or not what was written.

    The first format of runs and studies had no seals, and is taken as it is.
    """
    try:
        content = json.loads(read_whole(path).decode())
    except (ValueError, RecursionError) as error:
        raise BadData(f"{path} is damaged ({error}); move it away to start over") from None
    if not isinstance(content, dict):
        raise BadData(f"{path} is damaged (no object); move it away to start over")
    written = content.pop(SEAL, None)
    if written != seal(content) and (written is not None or content.get("format") != 1):
        raise BadData(f"{path} is damaged (its digest is not that of its content); move it away to start over")
    return content


def seal(content: dict[str, Any]) -> str:
    """The digest of what JSON can write, however it is laid out."""
    return json_digest(json.loads(json.dumps(unsealed(content))))  # as it will be read: all keys are text


def unsealed(content: dict[str, Any]) -> dict[str, Any]:
    """All but the seal."""
    return {key: value for key, value in content.items() if key != SEAL}


def json_digest(content: Any, data: bytes = b"") -> str:
    """SHA-256 of anything that JSON can write, the order of its keys aside, and of the bytes that follow it."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


def of_kinds(record: dict[str, Any], kinds: dict[str, Any], where: str | Path) -> dict[str, Any]:
    """The record, if its values are of these kinds: types, [kind] for lists, or again names and their kinds.

    BadData naming `where` and the first value that is missing or of another kind.
    """
    for name, kind in kinds.items():
        if name not in record or not _is_of(record[name], kind, where):
            raise BadData(f"{where} is damaged: its {name} is {record.get(name)!r:.80}; move it away to start over")
    return record


def _is_of(value: Any, kind: Any, where: str | Path) -> bool:
    if isinstance(kind, dict):
        return isinstance(value, dict) and bool(of_kinds(value, kind, where))
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_of(item, kind[0], where) for item in value)
    if isinstance(value, int) and abs(value) >= 2**63:  # JSON has no largest number, floats and tables have
        return False
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
