"""Tables of trainings of equal seconds, from the rows of benchmarks.learning: test accuracy, once, in the end."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.levers import LEVERS, own_settings
from lilliput.reports.words import title

TESTED, Z = 3000, 1.96  # test images of the published trials; of a 95 % interval
COLUMNS = ["technique", "backbone", "lever", "seconds", "seed", "test"]
OURS, PAPER, VIEWS, TAUGHT, SMALLER = "as it is", "paper's", "2 small views", "distilled", "40 px, stem half"
LIGHTLYS = ("cifar10", "imagenette")
IN_TABLES = {  # name there -> the lever, and pixels
    OURS: ("as it is", 64),
    PAPER: ("paper, batch 256", 64),
    VIEWS: ("2 small views", 64),
    TAUGHT: ("distilled", 64),
    SMALLER: ("half", 40),
    **{name: (f"lightly, {name}", 64) for name in LIGHTLYS},
}
FULL = 300.0  # seconds


def rows_of(folder: Path) -> pd.DataFrame:
    """Technique, backbone, lever, seconds, seed, test: of each trial the last row of its whole training."""
    found: dict[tuple, dict[str, Any]] = {}
    for line in (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["share"] == 1 and "test" in row and (lever := lever_of(row)):
            row["lever"] = lever
            found[tuple(row[name] for name in COLUMNS[:-1])] = row
    return pd.DataFrame(found.values(), columns=COLUMNS)


def lever_of(row: dict[str, Any]) -> str | None:
    """Which of the levers of the tables a trial is of; None where it is of none."""
    for lever, (name, size) in IN_TABLES.items():
        settings = own_settings(row["technique"], row["backbone"], LEVERS[name])
        if row["size"] == size and row["settings"] == settings:
            return lever
    return None


def paper(folder: Path) -> str:
    """Our recipe beside the paper's, cell by cell."""
    rows = rows_of(folder)
    lines = [
        "| network | technique | ours | the paper's | difference |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for backbone, technique, _ in _cells(rows[rows.lever == PAPER]):
        ours, theirs = (_test(rows, technique, backbone, lever) for lever in (OURS, PAPER))
        cells = [backbone, title(technique), _text(ours), _text(theirs), difference(ours, theirs)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def helps(folder: Path) -> str:
    """What is added to SimCLR on each network."""
    rows = rows_of(folder)
    names = list(dict.fromkeys(rows[rows.lever == VIEWS].backbone))
    lines = [f"| SimCLR | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for lever, technique in ((OURS, "simclr"), (VIEWS, "simclr"), (TAUGHT, "distil"), (SMALLER, "simclr")):
        found = [_test(rows, technique, backbone, lever) for backbone in names]
        lines.append(f"| {lever} | {' | '.join(map(_text, found))} |")
    return "\n".join(lines)


def peer(folder: Path) -> str:
    """Ours beside the better of lightly's benchmarks, cell by cell."""
    rows = rows_of(folder)
    lines = [
        "| network | technique | ours | ours, 60 s | lightly's better (its benchmark) | difference |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for backbone, technique, _ in _cells(rows[rows.lever.isin(LIGHTLYS)]):
        theirs = {name: _test(rows, technique, backbone, name) for name in LIGHTLYS}
        best = max(theirs, key=lambda name: theirs[name])
        ours, soon = (_test(rows, technique, backbone, OURS, seconds) for seconds in (FULL, 60.0))
        cells = [backbone, title(technique), _text(ours), _text(soon)]
        if any(map(math.isnan, theirs.values())):  # of which the better is not known
            cells += ["–", "–"]
        else:
            cells += [f"{_text(theirs[best])} ({best})", difference(ours, theirs[best])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for backbone in dict.fromkeys(rows.backbone):
        of_network = rows[rows.backbone == backbone]
        for technique in dict.fromkeys(of_network.technique):
            yield backbone, technique, of_network[of_network.technique == technique]


def _test(rows: pd.DataFrame, technique: str, backbone: str, lever: str, seconds: float = FULL) -> float:
    """Mean over seeds; NaN where there is none."""
    own = rows[(rows.technique == technique) & (rows.backbone == backbone) & (rows.lever == lever)]
    return float(own[own.seconds == seconds].test.mean())


def difference(one: float, other: float) -> str:
    """With what chance allows two readings of as many test images."""
    if math.isnan(one - other):
        return "–"
    chance = Z * math.sqrt((one * (1 - one) + other * (1 - other)) / TESTED)
    return f"{one - other:+.3f} ± {chance:.3f}".replace("0.", ".")


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".removeprefix("0")


TABLES: dict[str, Callable[[Path], str]] = {"paper": paper, "helps": helps, "peer": peer}
