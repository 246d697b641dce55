"""What to look at in a folder of images before training on it; nothing in it is touched."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lilliput.data.table import labels_in
from lilliput.data.tree import layout_of
from lilliput.errors import BadData
from lilliput.gallery.copies import alike, groups
from lilliput.gallery.doubts import FEWEST, doubted, wrong_and_hard
from lilliput.gallery.index import Index
from lilliput.gallery.strays import strangeness, strays
from lilliput.system.progress import say
from lilliput.system.visible import counted

FOLDERS = "folders"  # the word for classes by the folders' names


class Finding(NamedTuple):
    """An image to look at."""

    file: str
    score: float  # of copies how alike they are, of strays how far away, of labels how likely
    of: str = ""  # of a copy the image that it is one of; of a doubted label what is likelier
    label: str = ""
    group: int | None = None  # of copies, counted from 1


class Findings(NamedTuple):
    """By kind, the clearest first; no labels, no kinds of theirs."""

    copies: list[Finding]
    off_topic: list[Finding]
    label: list[Finding] | None
    hard: list[Finding] | None


def clean(index: Index, labels: str | os.PathLike | None = None) -> Findings:
    """What is found among the images of an index; `labels`: a table's file, or the word `folders`.

    BadData where the labels cannot be used.
    """
    known = None if labels is None else _large_enough(classes_of(index, labels))  # refused first
    features = index.whole()
    pairs = _copies(index, features)
    strange = strangeness(features)
    off_topic = [Finding(index.names[row], round(float(strange[row]), 3)) for row in strays(strange)]
    return Findings(pairs, off_topic, *(_doubts(index, features, known) if known is not None else (None, None)))


def classes_of(index: Index, labels: str | os.PathLike) -> dict[str, str]:
    """File -> class, of the images that have one."""
    if os.fspath(labels) != FOLDERS:
        named, remarks = labels_in(Path(os.path.expanduser(labels)), index.names)
        for remark in remarks:
            say(remark)
        return {name: label for name, label in named.items() if label}
    layout = layout_of(index.root, quiet=True)
    splits = () if layout is None else (layout.train.name, layout.test.name)
    named = {}
    for name in index.names:
        folders = name.split("/")[:-1]
        if layout and folders and folders[0] not in splits:  # without labels, or not used
            continue
        if own := folders[1:] if layout else folders:
            named[name] = own[0]
    if not named:
        raise BadData(f"{index.root} has no folders of classes; name a table of them (--labels FILE.csv)")
    return named


def _large_enough(known: dict[str, str]) -> dict[str, str]:
    """Those of classes that a probe can learn; the others are named, as a class of one image may be a misspelling."""
    counts = Counter(known.values())
    small = sorted(name for name, count in counts.items() if count < FEWEST)
    if len(counts) - len(small) < 2:
        raise BadData(
            f"to doubt labels takes two classes of {FEWEST} images, and there are {len(counts) - len(small)}; leave "
            f"--labels out, or name more images"
        )
    for name in small:
        say(
            f"class {name!r} has {counted(counts[name], 'image(s)')}, too few to learn it from: its labels are not "
            f"doubted; if it is a misspelling, mend the label"
        )
    return {file: name for file, name in known.items() if name not in small}


def _copies(index: Index, features: np.ndarray) -> list[Finding]:
    """Of each group the largest file first, which the others are taken for copies of."""
    pairs = alike(features, index.whole("grey"), [image.sha256 for image in index.images])
    likeness: dict[int, float] = {}
    for one, other, score in pairs:
        for row in (one, other):
            likeness[row] = max(score, likeness.get(row, 0.0))
    found = []
    surest = sorted(groups(pairs), key=lambda rows: -max(likeness[row] for row in rows))
    for number, rows in enumerate(surest, 1):
        first, *others = sorted(rows, key=lambda row: (-index.images[row].file.size, row))
        for row in (first, *others):
            of = "" if row == first else index.names[first]
            found.append(Finding(index.names[row], round(likeness[row], 3), of, group=number))
    return found


def _doubts(index: Index, features: np.ndarray, known: dict[str, str]) -> tuple[list[Finding], list[Finding]]:
    rows = np.array([row for row, name in enumerate(index.names) if name in known])
    classes = sorted(set(known.values()))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[known[index.names[row]]] for row in rows])
    doubt = doubted(features[rows], labels, len(classes))
    say(f"a linear probe tells {(doubt.guess == labels).mean():.1%} of the labels right; the surer it is, the better")

    def findings(places: np.ndarray) -> list[Finding]:
        return [
            Finding(
                index.names[rows[place]],
                round(float(doubt.own[place]), 4),
                classes[doubt.guess[place]],
                classes[labels[place]],
            )
            for place in places
        ]

    wrong, hard = wrong_and_hard(doubt, labels)
    return findings(wrong), findings(hard)
