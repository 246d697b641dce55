"""Tensors at rest: safetensors files that hold the digest of the rest of themselves; nothing in them is code."""

import hashlib
import json
import struct
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lilliput.errors import BadData
from lilliput.system.files import read_whole, write_whole
from lilliput.system.records import SEAL


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a safetensors file; BadData naming it if it is missing, or not what was written.

    The header is empty where others wrote the file.
    """
    content = read_whole(path)
    try:
        head, data = _parted(content)
        about = head.get("__metadata__", {})
        header = json.loads(about.get("lilliput", "{}"))
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        found, whole, tensors = about.get(SEAL), _digest(head, data), load(content)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        if content[:4] == b"PK\x03\x04" or content[:1] == b"\x80":
            raise BadData(
                f"{path} is a pickle, which can run any code when it is loaded, so Lilliput reads none; if you trust "
                f"it, convert it: torch.load(..., weights_only=True), then safetensors.torch.save_file"
            ) from None
        raise BadData(f"{path} is damaged or not a safetensors file ({error})") from None
    if header and found != whole and (found is not None or header.get("format") != 1):  # format 1 had no digest
        raise BadData(f"{path} is damaged: its digest is not that of its content")
    return tensors, header


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """A safetensors file that holds the digest of the rest of itself."""
    content = save({key: value.contiguous().cpu() for key, value in tensors.items()}, {"lilliput": json.dumps(header)})
    head, data = _parted(content)
    head["__metadata__"][SEAL] = _digest(head, data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    write_whole(path, struct.pack("<Q", len(text)) + text + data)


def _parted(content: bytes) -> tuple[dict, bytes]:
    """A safetensors file's header and data."""
    (length,) = struct.unpack("<Q", content[:8]) if len(content) >= 8 else (0,)
    head = json.loads(content[8 : 8 + length])
    if not isinstance(head, dict):
        raise ValueError("its header is no object")
    return head, content[8 + length :]


def _digest(head: dict, data: bytes) -> str:
    about = {key: value for key, value in head.get("__metadata__", {}).items() if key != SEAL}
    digest = hashlib.sha256(json.dumps({**head, "__metadata__": about}, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
