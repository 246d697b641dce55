"""Features in files that others read: .npy, .npz or .parquet, written row by row and whole or not at all."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from lilliput.errors import BadSetting, wanted
from lilliput.gallery.index import Index
from lilliput.system.files import write_whole, writing_whole


def check_out(out: Path) -> None:
    """BadSetting where features cannot be written to such a file here."""
    if out.suffix not in WRITERS:
        raise BadSetting(f"--out {out} ends in none of {', '.join(WRITERS)}, by which the format is known")
    if out.suffix == ".parquet":
        wanted("pyarrow.parquet", extra="parquet")


def write_features(index: Index, out: Path) -> list[Path]:
    """The features with their images' files; returns what was written, a table of unreadable files too if there are.

    .parquet has columns file, bytes, sha256, features; .npz arrays of these names; .npy the features [N, dim]
    alone, and a table beside it the rest.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    paths = [out]
    with writing_whole(out) as file:
        WRITERS[out.suffix](file, index)
    if out.suffix == ".npy":
        paths.append(out.with_suffix(".csv"))
        write_table(paths[-1], ("file", "bytes", "sha256"), _rows(index))
    unread = out.with_suffix(".unread.csv")
    if index.unread:
        write_table(unread, ("file", "reason"), ((file.name, reason) for file, reason in index.unread))
        return [*paths, unread]
    unread.unlink(missing_ok=True)
    return paths


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """As CSV in UTF-8; of names that are no text, what is none is written out."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_whole(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _rows(index: Index) -> Iterator[tuple[str, int, str]]:
    return ((image.file.name, image.file.size, image.sha256) for image in index.images)


def _as_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _npy(file: IO[bytes], index: Index) -> None:
    shape = {"descr": "<f4", "fortran_order": False, "shape": (len(index), index.dim)}
    np.lib.format.write_array_header_1_0(file, shape)
    for block in index.blocks():
        file.write(np.ascontiguousarray(block, "<f4").data)


def _npz(file: BinaryIO, index: Index) -> None:
    files, sizes, digests = zip(*_rows(index), strict=True)
    arrays = {
        "file": np.array([_as_text(name) for name in files]),
        "bytes": np.array(sizes),
        "sha256": np.array(digests),
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
        with archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as entry:
            _npy(entry, index)


def _parquet(file: BinaryIO, index: Index) -> None:
    pa, pq = wanted("pyarrow", extra="parquet"), wanted("pyarrow.parquet", extra="parquet")
    columns = {"file": pa.string(), "bytes": pa.int64(), "sha256": pa.string()}
    schema = pa.schema({**columns, "features": pa.list_(pa.float32(), index.dim)})
    rows = _rows(index)
    with pq.ParquetWriter(file, schema) as writer:
        for block in index.blocks():
            files, sizes, digests = zip(*(next(rows) for _ in block), strict=True)
            features = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel(), pa.float32()), index.dim)
            names = pa.array([_as_text(name) for name in files], pa.string())
            parts = [names, pa.array(sizes, pa.int64()), pa.array(digests, pa.string()), features]
            writer.write_table(pa.Table.from_arrays(parts, schema=schema))


WRITERS: dict[str, Callable[[Any, Index], None]] = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}
