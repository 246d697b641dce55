"""What a study is made of, and what of it can be refused before any work."""

import os
from dataclasses import dataclass, field
from typing import Any

from lilliput import catalog
from lilliput.data.store import Data
from lilliput.errors import BadSetting
from lilliput.probes import check_need, split
from lilliput.system.cost import check_country
from lilliput.system.resources import Resources
from lilliput.training.cell import Cell, build_checked, check_batch
from lilliput.training.stopping import Stopping, Until


@dataclass(frozen=True)
class Grid:
    """Cells of the same images, epochs and batch (the paper's recipes keep their own); what judges their encoders; and
    what they may use."""

    cells: list[Cell]
    data: Data
    labelled: Data  # what judges
    probes: dict[str, dict[str, Any]]  # name -> options
    every: int
    resources: Resources = field(default_factory=Resources)
    stopping: Stopping | None = None
    baselines: tuple[str, ...] = catalog.USUAL_BASELINES
    imagenet_weights: str | os.PathLike | None = None  # a folder of them, for that baseline
    until: Until = field(default_factory=Until)  # how far the cells train for now: no setting of the study

    @property
    def epochs(self) -> int:
        """Of the longest training."""
        return max(cell.recipe.epochs for cell in self.cells)

    @property
    def budget(self) -> tuple[int, int]:
        """Epochs and batch that every cell has: those of the shortest training, and the smallest batch."""
        recipes = [cell.recipe for cell in self.cells]
        return min(recipe.epochs for recipe in recipes), min(recipe.batch for recipe in recipes)

    @property
    def frozen_probes(self) -> list[str]:
        """The probes that leave the encoder frozen: a baseline's fine-tuning is the supervised baseline."""
        return [probe for probe in self.probes if probe != "finetune"]


def check(grid: Grid) -> None:
    """All that can be refused, before any work: BadSetting or BadData."""
    if not grid.cells:
        raise BadSetting("a study needs at least one technique and one backbone")
    if odd := sorted(set(grid.baselines) - set(catalog.CHOICES_OF_BASELINES)):
        raise BadSetting(f"baseline {odd[0]!r} is none of {', '.join(catalog.CHOICES_OF_BASELINES)}")
    train, test = grid.labelled.judging
    if train.is_labelled:
        split(train.labels)
    for name in grid.probes:
        check_need(name, catalog.probe(name), train, test)
    check_country(grid.resources.country)
    check_batch(max(cell.recipe.batch for cell in grid.cells), grid.data)
    for cell in {(cell.technique, cell.backbone): cell for cell in grid.cells}.values():
        build_checked(cell, grid.data.pool.image_size)
