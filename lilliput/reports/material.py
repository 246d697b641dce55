"""What a report is made of: a study's rows and settings, each read once, and its run folders."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lilliput.studies import results
from lilliput.studies.record import read_unchecked
from lilliput.training.cell import cell_name


@dataclass(frozen=True)
class Material:
    """The folder of a study or run; a study that is torn or not begun still has a table of what is there."""

    folder: Path
    rows: pd.DataFrame  # of results.csv, of all judges
    settings: dict[str, Any]  # of study.json, unchecked; {} where there is none or it is torn

    @cached_property
    def runs(self) -> list[dict[str, Any]]:
        """What the run.json below cells/ say, unchecked."""
        return [read_unchecked(path) for path in sorted((self.folder / "cells").glob("*/run.json"))]

    def run(self, technique: str, backbone: str, seed: int) -> Path:
        """The folder of a cell."""
        return self.folder / "cells" / cell_name(technique, backbone, seed)

    def names(self, setting: str) -> list[str]:
        """The names that a setting lists; [] where it is no list."""
        value = self.settings.get(setting)
        return [str(name) for name in value] if isinstance(value, list | tuple | dict) else []

    def whole(self, setting: str) -> int:
        """A setting that is a whole number; 0 where it is none."""
        return _whole(self.settings.get(setting))

    def of_recipe(self, technique: str, setting: str) -> int:
        """A whole number of a technique's own recipe; 0 where the study tells none."""
        recipes = self.settings.get("recipes")
        recipe = recipes.get(technique) if isinstance(recipes, dict) else None
        return _whole(recipe.get(setting)) if isinstance(recipe, dict) else 0


def open_material(folder: str | Path) -> Material:
    """Read a study's folder; BadData where results.csv has no whole row."""
    folder = Path(folder)
    return Material(folder, results.read(folder), read_unchecked(folder / "study.json"))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
