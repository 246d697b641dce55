"""What a study is made of, and what of it can be refused before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lilliput import catalog
from lilliput.data.store import Data
from lilliput.errors import BadData, BadSetting
from lilliput.probes._exam import split
from lilliput.system import cost
from lilliput.training.cell import Cell, build_checked
from lilliput.training.stopping import stop_rule


@dataclass(frozen=True)
class Grid:
    """What a study is made of."""

    cells: list[Cell]
    data: Data
    judge: Data
    probes: dict[str, dict[str, Any]]  # name -> options
    every: int
    device: str | None = None
    fixed: Mapping[str, Any] | None = None  # of the plan
    country: str = "USA"
    until_converged: int | None = None
    score: str | None = None

    @property
    def epochs(self) -> int:
        return self.cells[0].recipe.epochs


def check(grid: Grid) -> None:
    """All that can be refused, before any work."""
    from lilliput.backbones import check_image_size

    if not grid.cells:
        raise BadSetting("a study needs at least one technique and one backbone")
    if grid.judge.train is None or grid.judge.test is None:
        raise BadData(
            f"{grid.judge.name} has no labels to judge by: put images in train/<class>/ and test/<class>/, "
            f"name a labelled data set with --judge, or use `lilliput pretrain`"
        )
    split(grid.judge.train.labels)
    cost.check_country(grid.country)
    stop_rule(grid.data, grid.until_converged, grid.score)
    pool, batch = len(grid.data.pool), max(cell.recipe.batch for cell in grid.cells)
    if pool < batch:
        raise BadSetting(
            f"a batch of {batch} is larger than the {pool} images of {grid.data.name}; use --batch {pool} or less"
        )
    for backbone, options in {cell.backbone: cell.backbone_options for cell in grid.cells}.items():
        check_image_size(catalog.backbone_builder(backbone, **options)(), grid.data.pool.image_size)
    for cell in {cell.technique: cell for cell in grid.cells}.values():
        build_checked(cell)
