"""Classes of images from a table: a line for each image, its file and its label."""

import csv
from pathlib import Path

from lilliput.errors import BadData

FILE, LABEL = ("file", "filename", "image", "path"), ("label", "class")  # what the columns may be called


def labels_in(table: Path, files: list[str]) -> tuple[dict[str, str], list[str]]:
    """File -> class, of those of `files` that the table gives one; and what there is to say about the others.

    The table is CSV in UTF-8 with columns file (below the folder of the images) and label; an empty label is none.
    Raises BadData where it cannot be read, names no image, or gives one image two classes.
    """
    known, strange = set(files), []
    classes: dict[str, str] = {}
    for line, file, label in _lines(table):
        name = Path(file.replace("\\", "/")).as_posix()
        if name not in known:
            strange.append(f"{file!r} in line {line}")
        elif classes.setdefault(name, label) != label:
            raise BadData(f"{table} says in line {line} that {name!r} is {label!r}, and before that {classes[name]!r}")
    if not any(classes.values()):
        example = f": there is no {strange[0]}" if strange else ""
        raise BadData(f"{table} gives no image of the folder a label{example}; files are named from the folder on")
    labelled = {name: label for name, label in classes.items() if label}
    remarks = []
    if strange:
        remarks.append(f"{table}: {len(strange)} of its lines name no image of the folder: {strange[0]} ...")
    if rest := len(files) - len(labelled):
        remarks.append(f"{table}: {rest} of {len(files)} images have no label, and are in the pool alone")
    return labelled, remarks


def _lines(table: Path) -> list[tuple[int, str, str]]:
    """(number, file, label) of every line below the head."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as text:
            rows = csv.DictReader(text)
            names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
            columns = [next((names[name] for name in wanted if name in names), None) for wanted in (FILE, LABEL)]
            if None in columns:
                there = ", ".join(map(repr, rows.fieldnames or ())) or "none"
                raise BadData(f"{table} needs the columns file and label in its first line; it has {there}")
            file, label = columns
            return [(rows.line_num, (row[file] or "").strip(), (row[label] or "").strip()) for row in rows]
    except OSError as error:
        raise BadData(f"cannot read the labels {table}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{table} is no table of text in UTF-8: {error}") from None
