"""A cell: the settings that determine a run's weights, and the technique that they build."""

import dataclasses
import sys
import time
from dataclasses import dataclass
from typing import Any

from lilliput import catalog
from lilliput.backbones import check_image_size
from lilliput.data.store import Data
from lilliput.errors import BadData, BadSetting
from lilliput.optim.build import make_optimiser
from lilliput.optim.recipe import Recipe
from lilliput.system import cost
from lilliput.system.machine import commit, this_machine, versions
from lilliput.system.plan import Plan, choose
from lilliput.system.resources import Resources
from lilliput.system.seeds import seeded
from lilliput.techniques import Technique
from lilliput.training.record import FORMAT
from lilliput.training.stopping import Stopping


@dataclass(frozen=True)
class Cell:
    """What a run is: the settings that determine its weights."""

    technique: str
    backbone: str
    seed: int
    recipe_name: str  # small or paper
    recipe: Recipe
    technique_options: dict[str, Any]
    backbone_options: dict[str, Any]

    @property
    def name(self) -> str:
        return cell_name(self.technique, self.backbone, self.seed)

    def build_encoder(self) -> Any:
        """An untrained encoder of this cell, initialised by its seed."""
        build = catalog.backbone_builder(self.backbone, **self.backbone_options)
        with seeded(self.seed):
            return catalog.technique(self.technique).build_encoder(build)

    def build(self) -> Technique:
        """The technique, initialised by the seed: its encoder's numbers are drawn first, the same for all."""
        build = catalog.backbone_builder(self.backbone, **self.backbone_options)
        with seeded(self.seed):
            return catalog.technique(self.technique)(build, **self.technique_options)


def make_cell(
    technique: str,
    backbone: str,
    *,
    seed: int = 0,
    recipe: str = "small",
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
) -> Cell:
    """A cell from names and overriding options; UnknownName or BadSetting before any work."""
    catalog.check("techniques", technique)
    catalog.check("backbones", backbone)
    if seed < 0:
        raise BadSetting(f"seed {seed} must be 0 or more")
    dealt = catalog.sort_options(options or {}, techniques=[technique], backbones=[backbone])
    chosen = recipe_of(technique, recipe)
    try:
        chosen = chosen.override(epochs=epochs, batch=batch, **dealt["recipe"])
    except TypeError as error:
        raise BadSetting(f"a recipe's setting has the wrong type: {error}") from None
    technique_options = {**chosen.options, **dealt["techniques"][technique]}
    return Cell(technique, backbone, seed, recipe, chosen, technique_options, dealt["backbones"][backbone])


def recipe_of(technique: str, name: str) -> Recipe:
    """A technique's recipe; BadSetting where it has none of that name."""
    if name not in ("small", "paper"):
        raise BadSetting(f"recipe {name!r} is neither small nor paper")
    recipe = getattr(catalog.technique(technique), name, None)
    if not isinstance(recipe, Recipe):
        raise BadSetting(f"{technique} has no recipe {name!r}: its class must say {name} = Recipe(...)")
    return recipe


def plan_for(cell: Cell, size: int, resources: Resources) -> Plan:
    """The plan that suits the cell's network on this machine, at images of so many pixels."""
    network = catalog.backbone_builder(cell.backbone, **cell.backbone_options)
    name = " ".join([cell.backbone, *(f"{key}={value}" for key, value in sorted(cell.backbone_options.items()))])
    return choose(resources.device, resources.plan, network=network, name=name, size=size, batch=cell.recipe.batch)


def build_checked(cell: Cell) -> Technique:
    """The technique as initialised by the seed; BadSetting if an option's value cannot work."""
    try:
        technique = cell.build()
        make_optimiser(cell.recipe.suited(technique.encoder), technique)
        return technique
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BadSetting(f"{cell.technique} on {cell.backbone} cannot be built: {reason}") from None


def check_batch(batch: int, data: Data) -> None:
    """BadSetting if a batch is larger than all images to learn from."""
    if len(data.pool) < batch:
        raise BadSetting(
            f"a batch of {batch} is larger than the {len(data.pool)} images of {data.name}; "
            f"use --batch {len(data.pool)} or less"
        )


def checked(cell: Cell, data: Data, every: int) -> Technique:
    """The technique, after all that can be refused has been: BadData or BadSetting."""
    if len(data.pool) < 2:
        raise BadData(f"{data.name} has {len(data.pool)} image to learn from; a batch needs at least 2")
    check_batch(cell.recipe.batch, data)
    if every < 1:
        raise BadSetting(f"every {every} must be at least 1 epoch")
    build = catalog.backbone_builder(cell.backbone, **cell.backbone_options)
    check_image_size(build(), data.pool.image_size)
    return build_checked(cell)


def settings_of(cell: Cell, recipe: Recipe, data: Data, every: int, stopping: Stopping | None) -> dict[str, Any]:
    """Everything that determines the weights and when they are saved."""
    used = dataclasses.asdict(recipe)
    del used["options"], used["bare"]
    return {
        "technique": cell.technique,
        "backbone": cell.backbone,
        "seed": cell.seed,
        "recipe": cell.recipe_name,
        "recipe_settings": used,
        "technique_options": {**_defaults("techniques", cell.technique), **cell.technique_options},
        "backbone_options": cell.backbone_options,
        "data": data.name,
        "data_digest": data.pool.digest,
        "pool_images": len(data.pool),
        "image_size": data.pool.image_size,
        "every": every,
        "until_converged": dataclasses.asdict(stopping) if stopping else None,
        **catalog.own_files(techniques=[cell.technique], backbones=[cell.backbone]),
    }


def _defaults(kind: str, name: str) -> dict[str, Any]:
    return {option.name: option.default for option in catalog.entry(kind, name).options}


def cell_name(technique: str, backbone: str, seed: int) -> str:
    """Of a run in a study's folder."""
    return f"{technique}-{backbone.replace('/', '_')}-{seed}"


def circumstances(cell: Cell, size: int, country: str) -> dict[str, Any]:
    """What the run cannot choose, and what follows from its settings."""
    encoder = cell.build_encoder()
    return {
        "format": FORMAT,
        "parameters": cost.parameters(encoder),
        "multiply_adds": cost.multiply_adds(encoder, size),
        "multiply_adds_224": cost.multiply_adds_or_none(encoder, 224),
        "dim": encoder.dim,
        "country": country,
        "versions": versions(),
        "machine": this_machine(),
        "commit": commit(),
        "command": " ".join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
