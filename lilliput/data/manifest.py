"""The manifest of a store: what its arrays are, their digest, and whether they are still that."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.errors import BadData
from lilliput.system.progress import task
from lilliput.system.records import json_digest, of_kinds, read_json

FORMAT_VERSION = 1
KINDS: dict[str, Any] = {
    "format": int,
    "name": str,
    "split": str,
    "source": str,
    "image_size": int,
    "count": int,
    "classes": list | None,
    "digest": str,
    "shapes": dict,
    "skipped": [{"file": str, "reason": str}],
}
ARRAYS = ("images", "labels", "masks")
CHUNK_BYTES = 1 << 24  # read at once


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the manifest in the folder says; BadData where there is none, or not a whole one of this format."""
    if not (folder / "manifest.json").is_file():
        raise BadData(f"no store in {folder}; prepare the data first")
    manifest = read_json(folder / "manifest.json")
    version = manifest.get("format")
    if version != FORMAT_VERSION:
        raise BadData(f"the store {folder} has format {version!r}, this version reads {FORMAT_VERSION}; prepare again")
    if missing := sorted(set(KINDS) - set(manifest)):
        raise BadData(f"the store {folder} is torn: its manifest lacks {', '.join(missing)}; prepare again")
    of_kinds(manifest, KINDS, f"the manifest of the store {folder}")
    if strange := sorted(set(manifest["shapes"]) - set(ARRAYS)):
        raise BadData(f"the store {folder} is torn: its manifest names an array {strange[0]!r}; prepare again")
    return manifest


def what_is_wrong(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> str | None:
    """What about the arrays cannot be, or None."""
    if "images" not in arrays:
        return "it has no images"
    images, labels, classes = arrays["images"], arrays.get("labels"), manifest["classes"]
    count, size = (len(images), images.shape[-1]) if images.ndim else (0, 0)
    shapes = {"images": (count, 3, size, size), "labels": (count,), "masks": (count, size, size)}
    for name, array in arrays.items():
        kind = np.int64 if name == "labels" else np.uint8
        if list(array.shape) != manifest["shapes"][name] or array.shape != shapes[name] or array.dtype != kind:
            return f"{name}.npy is {array.dtype} {list(array.shape)}"
    if not images.size:
        return "it is empty"
    if (manifest["count"], manifest["image_size"]) != (count, size):
        return f"{count} images of {size} px, not {manifest['count']} of {manifest['image_size']} px"
    if labels is not None and classes is not None and not (labels.min() >= 0 and labels.max() < len(classes)):
        return f"labels from {labels.min()} to {labels.max()} for {len(classes)} classes"
    if classes is not None and not all(isinstance(name, str) for name in classes):
        return "its classes are no names"
    return None


def digest_of(arrays: dict[str, np.ndarray], what: str) -> str:
    """SHA-256 of the arrays' names, types, shapes and contents; `what` names the work while it goes on."""
    digest = hashlib.sha256()
    with task(what, sum(len(rows) for rows in arrays.values())) as advance:
        for name in sorted(arrays):
            rows = arrays[name]
            digest.update(f"{name} {rows.dtype} {rows.shape}".encode())
            step = rows_per_chunk(rows)
            for start in range(0, len(rows), step):
                chunk = np.ascontiguousarray(rows[start : start + step])
                digest.update(chunk.data)
                advance(len(chunk))
    return digest.hexdigest()


def rows_per_chunk(rows: np.ndarray) -> int:
    """How many rows of an array to hold in memory at once."""
    return max(1, CHUNK_BYTES // max(1, rows[:1].nbytes))


def fingerprint(key: Any) -> str:
    """A short digest of anything that JSON can write; changes with the format of stores."""
    return json_digest([FORMAT_VERSION, key])[:16]
