"""Numbers and names as text, the same in tables, figures and the page."""

import math
from functools import cache
from typing import Any

from lilliput import catalog
from lilliput.reports import paper
from lilliput.system.visible import counted

ABSENT = "–"
UNITS = {"G": 1e9, "M": 1e6, "k": 1e3}


def share(value: float, digits: int = 3) -> str:
    """A number in 0..1: .250."""
    return f"{value:.{digits}f}".removeprefix("0")


def count(value: float, *, smallest_unit: str = "") -> str:
    """Three digits and a unit: 2.22 M. A column of one unit is given it as `smallest_unit`."""
    for unit, size in UNITS.items():
        if value >= size or unit == smallest_unit:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def cells_of(number: int) -> str:
    """1 cell, 2 cells."""
    return counted(number, "cell(s)")


def short(value: float) -> str:
    """Three digits that matter, without powers of ten: 0.0110, 10.4, 1228."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def shortest(value: float) -> str:
    """As `short`, without zeros at its end: 0.011, 10.4, 1228."""
    text = short(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(value: float, digits: int = 2) -> str:
    """With its sign: +0.25; a dash for NaN."""
    return ABSENT if math.isnan(value) else f"{value:+.{digits}f}"


def metric_value(value: float | None) -> str:
    """A number of any metric: 0.250, 37, 4.812e+04; a dash where there is none."""
    if value is None or math.isnan(value):
        return ABSENT
    return f"{value:.3f}" if abs(value) < 10 and value != round(value) else f"{value:.4g}"


def flat(value: Any) -> str:
    """A JSON value on one line: "batch 64, seeds 0, 1"; absent entries are left out."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {flat(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(flat, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def title(name: str) -> str:
    """A technique as it is spelt; any other name with spaces for its underscores."""
    return spelt(name) or name.replace("_", " ")


@cache
def spelt(technique: str) -> str | None:
    """A technique as the paper spells it, or as its file in Lilliput begins ("DINO: ..."); None of any other."""
    location = catalog.locations("techniques").get(technique)
    ours = location is not None and not location.is_own
    heading = catalog.entry("techniques", technique).summary.partition(":")[0] if ours else None
    return paper.technique(technique) or heading
