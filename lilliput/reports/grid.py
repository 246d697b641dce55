"""The grid that a judge has judged: its rows, its techniques and backbones in order, and what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports import paper
from lilliput.reports.gaps import Gap, comparable, find_gaps
from lilliput.reports.material import Material
from lilliput.reports.words import flat


@dataclass(frozen=True)
class Grid:
    """What the tables and figures of one judge are about."""

    material: Material
    judge: str  # "" where nothing was judged yet
    suffix: str  # of the names of its figures
    rows: pd.DataFrame  # of this judge, without seeds that crashed
    techniques: list[str]
    backbones: list[str]
    gaps: list[Gap]
    image_size: str  # px in pretraining; "" where nothing tells it


def grids(material: Material) -> list[Grid]:
    """One for each data set that the encoders were judged on; a study without rows has one too."""
    judges = dict.fromkeys(material.rows.judge) or [""]
    # A number, not the judge's name: that is a user's word, and this a file.
    return [_grid(material, judge, f"-{place}" if place > 1 else "") for place, judge in enumerate(judges, start=1)]


def _grid(material: Material, judge: str, suffix: str) -> Grid:
    rows = material.rows[material.rows.judge == judge]
    asked = [name for name in material.names("techniques") if name not in BASELINES]
    techniques = paper.in_order([*rows.technique[~rows.technique.isin(BASELINES)], *asked], paper.TECHNIQUES)
    backbones = paper.in_order([*rows.backbone[rows.backbone != ""], *material.names("backbones")], paper.BACKBONES)
    gaps = find_gaps(material, rows, techniques, backbones)
    size = flat(material.settings.get("image_size") or distinct(rows.image_size.dropna()))
    return Grid(material, judge, suffix, comparable(material, rows), techniques, backbones, gaps, size)


def distinct(values: Iterable) -> list:
    """Each value once, in their order, without empty text."""
    return list(dict.fromkeys(value for value in values if value != ""))
