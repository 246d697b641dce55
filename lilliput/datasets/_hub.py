"""Data sets of Hugging Face's hub, or in its form on the disk, by the library `datasets`: hf/NAME[:IMAGE[:LABEL]].

Lhoest et al., Datasets: a community library for natural language processing, EMNLP 2021,
https://arxiv.org/abs/2109.02846. The library fetches, checks and keeps the files; it runs no code of the data set's.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lilliput.data.filling import fill_from_files
from lilliput.data.split import SHARE, split
from lilliput.data.store import DEFAULT_SIZE, Data, Store, chosen_size, spaced
from lilliput.data.writing import prepared
from lilliput.errors import BadData, BadSetting, LilliputError, UnknownName, wanted
from lilliput.images.decode import short_sides
from lilliput.system.progress import say
from lilliput.system.visible import visible

PREFIX = "hf/"
LONGEST_NAME = 50  # with technique and backbone it must still be a folder's name
JUDGING = ("test", "validation", "valid", "val", "dev")  # splits that test, the first that has labels
HEADERS_READ = 1000


class _Images(Sequence):
    """What is in the files of some rows' images, or where these are; read when asked for."""

    def __init__(self, rows: Any, column: str, chosen: np.ndarray):
        self._rows, self._column, self._chosen = rows, column, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, number):
        image = self._rows[int(self._chosen[number])][self._column] or {}
        return image.get("bytes") or (Path(image["path"]) if image.get("path") else b"")


class Columns(NamedTuple):
    """A data set's images, and their classes where it has any."""

    image: str
    label: str | None
    classes: list[str] | None


def prepare(name: str, *, image_size: int | None = None, limit: int | None = None, share: float | None = None) -> Data:
    """Stores of `name`, which begins with hf/: what it calls train is the pool, what it calls test or validation tests.

    Labels are those of the first column of classes; without one there are none. Where no split tests, `share` of each
    class does, drawn always alike. Raises BadSetting, BadData, LilliputError where the hub cannot be reached.
    """
    library = wanted("datasets", extra="hf")
    path, *asked = name.removeprefix(PREFIX).split(":")
    splits = _opened(library, path)
    training = splits.get("train") or (next(iter(splits.values())) if len(splits) == 1 else None)
    if training is None:
        raise BadData(f"{name} has no split called train but {', '.join(map(str, splits))}; name another data set")
    columns = _columns(library, name, training, *asked)
    parts = {
        which: part.cast_column(columns.image, library.Image(decode=False))
        for which, part in splits.items()
        if part is training or (which in JUDGING and columns.image in part.column_names)
    }
    training = parts[next(which for which, part in splits.items() if part is training)]
    return _data_of(f"hf-{_plain(path)}", training, _judging(parts, columns), columns, image_size, limit, share)


def _plain(path: str) -> str:
    """Of a folder its name, of what the hub has its owner's too."""
    parts = Path(path).resolve().parts[-1:] if Path(path).exists() else path.split("/")
    return visible("-".join(parts))[:LONGEST_NAME]


def _opened(library: Any, path: str) -> dict[str, Any]:
    """Split -> its rows; of a folder that the library wrote, of one with files of the hub's form, or of the hub."""
    folder = Path(path).expanduser()
    local = folder.exists() or path.startswith((".", "/", "~"))
    if local and not folder.is_dir():
        raise BadData(f"no folder {folder}")
    try:
        saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
        opened = library.load_from_disk(folder) if saved else library.load_dataset(str(folder) if local else path)
    except Exception as error:  # of the library's, the hub's and the network's own kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if local:
            raise BadData(f"{folder} is no data set that the library datasets can read ({reason})") from error
        raise LilliputError(
            f"cannot get {path} from Hugging Face's hub ({reason}); or fetch its parquet files by hand "
            f"and give their folder: {PREFIX}./FOLDER"
        ) from error
    return dict(opened) if isinstance(opened, dict) else {"train": opened}


def _columns(library: Any, name: str, rows: Any, image: str | None = None, label: str | None = None) -> Columns:
    """The columns that are meant: those named, or the first of their kind."""
    images = [column for column, kind in rows.features.items() if isinstance(kind, library.Image)]
    labels = [column for column, kind in rows.features.items() if isinstance(kind, library.ClassLabel)]
    for asked, there, what in ((image, images, "images"), (label, labels, "classes")):
        if asked and asked not in there:
            raise UnknownName(f"{name}: column {asked!r} holds no {what}; those that do: {', '.join(there) or 'none'}")
    if not images:
        raise BadData(f"{name} has no column of images; its columns are {', '.join(rows.column_names)}")
    label = label or next(iter(labels), None)
    return Columns(image or images[0], label, None if label is None else list(rows.features[label].names))


def _judging(parts: dict[str, Any], columns: Columns) -> Any:
    """The split that tests: the first of JUDGING with labels, which some do not publish; None where there is none."""
    for which in JUDGING:
        if which in parts and len(_labelled_rows(parts[which], columns)):
            return parts[which]
    return None


def _labelled_rows(rows: Any, columns: Columns) -> np.ndarray:
    """The numbers of the rows that have a label: -1 or nothing is none."""
    if columns.label is None or columns.label not in rows.column_names:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(_labels(rows, columns) >= 0)


def _labels(rows: Any, columns: Columns) -> np.ndarray:
    return np.array([-1 if label is None else label for label in rows[columns.label]], dtype=np.int64)


def _data_of(
    name: str,
    training: Any,
    judging: Any,
    columns: Columns,
    image_size: int | None,
    limit: int | None,
    share: float | None,
) -> Data:
    if share is not None and judging is not None:
        raise BadSetting(f"{name} is split already: no test_share")
    size = chosen_size(image_size, _own_size(training, columns) if image_size is None else DEFAULT_SIZE)
    fitting = _labelled_rows(training, columns)
    if not len(fitting):
        return Data(name, _store(name, "pool", training, columns, size, spaced(len(training), limit)), None, None)
    if judging is None:
        whole = _store(name, "labelled", training, columns, size, fitting)
        learned, judged = split(whole, share or SHARE)
        say(f"{name}: no split tests, so {len(judged)} of {len(whole)} images do")
        return Data(name, learned if limit is None else learned.take(spaced(len(learned), limit)), learned, judged)
    train = _store(name, "train", training, columns, size, fitting)
    test = _store(name, "test", judging, columns, size, _labelled_rows(judging, columns))
    if len(fitting) == len(training) and (limit is None or limit >= len(training)):
        return Data(name, train, train, test)
    return Data(name, _store(name, "pool", training, columns, size, spaced(len(training), limit)), train, test)


def _store(name: str, kind: str, rows: Any, columns: Columns, size: int, chosen: np.ndarray) -> Store:
    labelled = kind != "pool"
    files = [[file["filename"], *_state(file["filename"])] for file in rows.cache_files]
    images = _Images(rows, columns.image, chosen)
    names = [f"row {row}" for row in chosen.tolist()]
    labels = _labels(rows, columns)[chosen] if labelled else None
    return prepared(
        name=name,
        split=kind,
        key=[files or rows._fingerprint, list(columns), str(rows.split), len(rows), size, len(chosen)],
        source=f"{PREFIX}{name.removeprefix('hf-')} ({rows.split})",
        image_size=size,
        count=len(chosen),
        fill=fill_from_files(images, names, f"decoding {name} {kind}"),
        labels=labels,
        classes=[visible(name) for name in columns.classes or []] if labelled else None,
    )


def _state(path: str | os.PathLike) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _own_size(rows: Any, columns: Columns) -> int:
    """The side that nineteen of twenty images reach, by the headers of some."""
    sides = short_sides(_Images(rows, columns.image, spaced(len(rows), HEADERS_READ)))
    return int(np.quantile(sides, 0.05, method="lower")) if sides else DEFAULT_SIZE
