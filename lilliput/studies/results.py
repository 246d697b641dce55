"""The tidy table at rest: one row for each measured value, in <study>/results.csv.

Everything that a reader sees is computed from these rows.
A row is a line, and ends with the start of its own digest: damage is found, and costs no other row.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lilliput.errors import BadData
from lilliput.system.files import append_whole, free_name, read_whole, write_whole
from lilliput.system.locks import locked, unwritten
from lilliput.system.progress import say
from lilliput.system.records import read_json
from lilliput.system.visible import visible
from lilliput.training.cell import cell_name
from lilliput.training.encoders import encoder_path

_NAMES = ("technique", "backbone", "probe", "metric", "recipe", "data", "judge")
_TEXT = (*_NAMES, "commit", "flagged", "trace", "mistakes", "init")
_WHOLE = ("seed", "epoch", "image_size", "parameters", "multiply_adds", "multiply_adds_224", "rows")
_COST = ("seconds", "probe_seconds", "images_per_s", "peak_memory_mib", "kwh", "grams_co2", "grams_co2_ml_impact")
_REAL = ("value", *_COST)
COLUMNS = [
    *("technique", "backbone", "seed", "epoch", "probe", "metric", "value", "recipe", "data", "judge", "image_size"),
    *("seconds", "probe_seconds", "images_per_s", "parameters", "multiply_adds", "multiply_adds_224"),
    *("peak_memory_mib", "kwh", "grams_co2", "grams_co2_ml_impact", "commit", "flagged", "trace"),
    "rows",  # that the probe gave at once: fewer, and some were lost
    "mistakes",  # on the first of a classifier's rows: see studies/mistakes.py
    "init",  # what pretraining started from, where not from random weights
]
_UNCHECKED = COLUMNS[:-5]  # of files of old, without digests
_OLDER = tuple(COLUMNS[: len(COLUMNS) - less] for less in range(4))  # and with them: without init, mistakes, rows
_HEAD = ",".join([*COLUMNS, "check"])  # a row's digest is on disk alone
KEY = ["technique", "backbone", "seed", "epoch", "probe", "metric", "judge"]
CELL = ["technique", "backbone", "seed"]


def read(folder: str | Path) -> pd.DataFrame:
    """All rows of a study; absent text is "", an absent number NaN. Damaged rows are left out, and said.

    Raises BadData where neither the head nor a row is whole.
    """
    with unwritten(Path(folder)):
        rows, damaged = _read(Path(folder) / "results.csv")
    if damaged:
        where = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        file = Path(folder) / "results.csv"
        say(f"{file} is damaged in line {where}: left out, and judged again when the work goes on")
    return rows


def damaged_lines(path: Path) -> list[int]:
    """The numbers of the lines of a results.csv that are not what was written; BadData where none is, nor the head."""
    with unwritten(path.parent):
        return _read(path)[1]


def teacher_among(folder: Path, wanted: str) -> Path:
    """The encoder of a study that is to teach: that of a cell by its name, or the "best" of all; of a cell the one that
    the linear probe of the study's own judge finds best by held-out labels. BadData where there is none."""
    rows = read(folder)
    rows = rows[rows.judge == read_json(folder / "study.json")["judge"]]
    rows = rows[(rows.probe == "linear") & (rows.metric == "held_out_accuracy") & (rows.epoch > 0)]
    rows = rows[rows.technique != "distil"].sort_values("value", ascending=False, kind="stable")
    for technique, backbone, seed, epoch in rows[[*CELL, "epoch"]].itertuples(index=False):
        name = cell_name(technique, backbone, seed)
        file = encoder_path(folder / "cells" / name, epoch)
        if wanted in (name, "best") and file.exists():
            return file
    raise BadData(f"{folder} has no judged cell to distil from by the name {wanted!r}; see its cells/, or say best")


def done(rows: pd.DataFrame) -> set[tuple[int, str]]:
    """Of the rows of one encoder's run and one judge: (epoch, probe) of which none was lost."""
    by = ["epoch", "probe"]
    return set(rows.groupby(by).groups) - set(_short(rows, by))


def torn(rows: pd.DataFrame) -> list[str]:
    """Which (cell, epoch, probe, judge) have fewer rows than the probe gave."""
    return [" ".join(map(str, filter(str, group))) for group in _short(rows, [*CELL, "epoch", "probe", "judge"])]


def _short(rows: pd.DataFrame, by: list[str]) -> list[tuple]:
    """The groups of which some rows are gone."""
    groups = rows.groupby(by)
    return list(groups.size()[groups.size() < groups["rows"].max().fillna(1)].index)


def mend(folder: str | Path) -> None:
    """Leave out of results.csv what is damaged, so that it is judged again; what the file was is kept beside."""
    path = Path(folder) / "results.csv"
    if not path.exists():
        return
    with locked(Path(folder)):
        if _read(path)[1]:
            _rewrite(path)


def append(folder: str | Path, rows: Sequence[dict]) -> None:
    """Add rows at the end; of rows with the same key the last one counts. A crash leaves at worst a torn last line."""
    if not rows:
        return
    lines = "".join(_lines(_tidied(rows))).encode()
    Path(folder).mkdir(parents=True, exist_ok=True)
    with locked(Path(folder)):
        path = Path(folder) / "results.csv"
        if not path.exists():
            write_whole(path, f"{_HEAD}\n".encode())
        elif not _is_ours(path):
            _rewrite(path)
        append_whole(path, lines)


def _is_ours(path: Path) -> bool:
    """By its first line, which an older Lilliput's lacks, and its end, which a torn one lacks."""
    with path.open("rb") as file:
        if file.readline() != f"{_HEAD}\n".encode():
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _lines(rows: pd.DataFrame) -> list[str]:
    # A column of numbers with gaps is real in memory; on disk a count of parameters is not "11689512.0".
    text = rows.astype(dict.fromkeys(_WHOLE, "Int64")).to_csv(index=False, header=False, lineterminator="\n")
    return [f"{line},{_check(line.encode())}\n" for line in text.splitlines()]


def _rewrite(path: Path) -> None:
    """The rows that are whole, as they are written today; what was damaged is kept beside."""
    rows, damaged = _read(path)
    if damaged:
        aside = free_name(path)
        shutil.copy(path, aside)
        say(f"{path} was damaged: what it was is kept as {aside.name}")
    write_whole(path, "".join([f"{_HEAD}\n", *_lines(rows)]).encode())


def _check(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:8]


def _read(path: Path) -> tuple[pd.DataFrame, list[int]]:
    """The rows that are whole, and the numbers of the lines that are not."""
    if not path.exists():
        return _typed(pd.DataFrame(columns=COLUMNS)), []
    head, *lines = read_whole(path).split(b"\n")
    if head == ",".join(_UNCHECKED).encode():
        return _read_unchecked(path, lines), []
    known = {",".join([*columns, "check"]).encode(): columns for columns in _OLDER}
    columns = known.get(head, COLUMNS)
    good, damaged = [], [] if head in known else [1]
    for number, line in enumerate(lines, 2):
        row, _, check = line.rpartition(b",")
        if check == _check(row).encode():
            good.append(row)
        elif line:
            damaged.append(number)
    if head not in known and not good and (head or lines):  # an empty file is nobody else's
        raise BadData(f"{path} is no results.csv, or wholly damaged; move it away and judge again")
    rows = _parsed(b"\n".join([",".join(columns).encode(), *good]), path)
    return rows.drop_duplicates(KEY, keep="last", ignore_index=True), damaged


def _read_unchecked(path: Path, lines: list[bytes]) -> pd.DataFrame:
    """As written before rows had digests."""
    if lines[-1:] != [b""]:  # every line that we wrote ended
        raise BadData(f"{path} is torn: its last line has no end; move it away and judge again")
    return _parsed(read_whole(path), path)


def _parsed(content: bytes, path: Path) -> pd.DataFrame:
    try:
        # As text first: the exact value of a number depends on pandas' version, that of float("...") does not.
        return _typed(_checked(pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)))
    except (
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # pandas' parser errors are ValueErrors, and so is bad UTF-8
        why = " ".join(str(error).split())
        raise BadData(f"{path} is not a whole results.csv ({why}); move it away and judge again") from error


def _tidied(rows: Sequence[dict]) -> pd.DataFrame:
    needed = [name for name in KEY if name != "judge"] + ["value"]
    for row in rows:
        if strange := sorted(set(row) - set(COLUMNS)):
            raise BadData(f"a row of results has no column {strange[0]!r}; the columns are {', '.join(COLUMNS)}")
        if absent := [name for name in needed if row.get(name) is None]:
            raise BadData(f"a row of results lacks {absent[0]!r}: {row}")
    frame = pd.DataFrame([[row.get(name) for name in COLUMNS] for row in rows], columns=COLUMNS, dtype=object)
    for name in _TEXT:
        frame[name] = [_printable(text) for text in frame[name]]
    return _typed(frame)


def _printable(text: object) -> str:
    # A folder's name need not be UTF-8; Python then holds half characters that no file takes; and no control character
    # may come back out of a table, be it a line's end within a name or an order to a terminal.
    return "" if text is None else visible(str(text))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = list(_WHOLE + _REAL)
    frame[numbers] = frame[numbers].mask(frame[numbers] == "")
    types: dict[str, type] = dict.fromkeys(_TEXT, str) | dict.fromkeys(numbers, float)
    return frame.astype(types | {"seed": int, "epoch": int})


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    if list(frame.columns) not in (*_OLDER, _UNCHECKED):
        raise ValueError(f"its columns are {', '.join(map(str, frame.columns))[:200]}")
    if not isinstance(frame.index, pd.RangeIndex) or frame.isna().any(axis=None):
        raise ValueError(f"a line has not {len(frame.columns)} fields")
    return frame.reindex(columns=COLUMNS, fill_value="")
