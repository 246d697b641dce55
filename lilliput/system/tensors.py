"""Tensors at rest: safetensors files that hold the digest of the rest of themselves; nothing in them is code."""

import json
import struct
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lilliput.errors import BadData
from lilliput.system.files import read_whole, write_whole
from lilliput.system.records import SEAL, json_digest, unsealed


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and Lilliput's header of a safetensors file; the header is empty where others wrote the file.

    BadData naming the file if it is no safetensors file, or not what was written; Unreadable if it is missing.
    """
    content = read_whole(path)
    try:
        index, data = _parted(content)
        metadata = index.get("__metadata__", {})
        header = json.loads(metadata.get("lilliput", "{}"))
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        written, computed, tensors = metadata.get(SEAL), _digest(index, data), load(content)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        if content[:4] == b"PK\x03\x04" or content[:1] == b"\x80":
            raise BadData(
                f"{path} is a pickle, which can run any code when it is loaded, so Lilliput reads none; if you trust "
                f"it, convert it: torch.load(..., weights_only=True), then safetensors.torch.save_file"
            ) from None
        raise BadData(f"{path} is damaged or not a safetensors file ({error})") from None
    if header and written != computed and (written is not None or header.get("format") != 1):  # it had none
        raise BadData(f"{path} is damaged: its digest is not that of its content")
    return tensors, header


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """A safetensors file that holds the digest of the rest of itself."""
    content = save({key: value.contiguous().cpu() for key, value in tensors.items()}, {"lilliput": json.dumps(header)})
    index, data = _parted(content)
    index["__metadata__"][SEAL] = _digest(index, data)
    text = json.dumps(index).encode()
    text += b" " * (-len(text) % 8)
    write_whole(path, struct.pack("<Q", len(text)) + text + data)


def _parted(content: bytes) -> tuple[dict, bytes]:
    """A safetensors file's index, which holds the metadata and where each tensor lies, and its data."""
    (length,) = struct.unpack("<Q", content[:8]) if len(content) >= 8 else (0,)
    index = json.loads(content[8 : 8 + length])
    if not isinstance(index, dict):
        raise ValueError("its header is no object")
    return index, content[8 + length :]


def _digest(index: dict, data: bytes) -> str:
    return json_digest({**index, "__metadata__": unsealed(index.get("__metadata__", {}))}, data)
