"""A cell: the settings that determine a run's weights, and the technique that they build."""

import copy
import functools
import json
from dataclasses import dataclass
from typing import Any

import torch

from lilliput import catalog
from lilliput.backbones import Backbone, TooSmall, check_image_size, refuse_small_parts
from lilliput.data.store import Data
from lilliput.errors import BadData, BadSetting
from lilliput.optim.build import make_optimiser
from lilliput.optim.recipe import Recipe
from lilliput.system import distributed
from lilliput.system.modes import evaluating
from lilliput.system.plan import Plan, choose
from lilliput.system.resources import Resources
from lilliput.system.seeds import seeded
from lilliput.techniques import BackboneBuilder, Technique
from lilliput.training.initial import Init, Teacher, started_from, with_residuals_at_zero

RECIPES = ("small", "large", "paper")
LARGE_POOL, LARGE_SIZE = 50_000, 64  # images and pixels from which the large recipe is the usual one
SMALL_IMAGES, MANY_STEPS = 48, 200  # up to which size, and from how many steps on, the usual stem is "half"


@dataclass(frozen=True)
class Cell:
    """What a run is: the settings that determine its weights."""

    technique: str
    backbone: str
    seed: int
    recipe_name: str  # small, large or paper
    recipe: Recipe
    technique_options: dict[str, Any]
    backbone_options: dict[str, Any]
    init: Init | None = None  # weights to start from; random ones without
    teacher: Teacher | None = None  # what the technique learns from, if it has one

    @property
    def name(self) -> str:
        return cell_name(self.technique, self.backbone, self.seed)

    @property
    def backbone_builder(self) -> BackboneBuilder:
        return catalog.backbone_builder(self.backbone, **self.backbone_options)

    @property
    def starting_builder(self) -> BackboneBuilder:
        """As `backbone_builder`, with the weights that pretraining starts from."""
        if self.init:
            return started_from(self.backbone_builder, self.init)
        return with_residuals_at_zero(self.backbone_builder) if self.recipe.zero_residuals else self.backbone_builder

    def build_backbone(self) -> Any:
        """The untrained backbone alone, initialised by the seed."""
        with seeded(self.seed):
            return self.backbone_builder()

    def build_encoder(self) -> Any:
        """An untrained encoder of this cell, initialised by its seed."""
        with seeded(self.seed):
            return catalog.technique(self.technique).build_encoder(self.backbone_builder)

    def build(self) -> Technique:
        """The technique, initialised by the seed: its encoder's numbers are drawn first, the same for all."""
        options = {**self.technique_options, **({"teacher": self.teacher.network()} if self.teacher else {})}
        with seeded(self.seed):
            return catalog.technique(self.technique)(self.starting_builder, **options)


def make_cell(
    technique: str,
    backbone: str,
    *,
    seed: int = 0,
    recipe: str = "small",
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
    init: Init | None = None,
    teacher: Teacher | None = None,
    data: Data | None = None,
) -> Cell:
    """A cell from names and overriding options; UnknownName or BadSetting before any work.

    The backbone's stem suits the `data`, unless it is among the options or the recipe is the paper's. The `teacher` is
    for techniques that are taught.
    """
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
    backbone_options = dealt["backbones"][backbone]
    if data is not None and recipe != "paper":
        steps = chosen.epochs * (len(data.pool) // chosen.batch)
        backbone_options = usual_stem(backbone, data.pool.image_size, steps, backbone_options)
    if not catalog.technique(technique).taught:
        teacher = None
    elif teacher is None:
        raise BadSetting(
            f"{technique} learns from a teacher: give --teacher with a run's folder, an encoder's file, or the name of "
            f"a backbone that has weights of ImageNet"
        )
    else:
        technique_options["teacher"] = teacher.as_option
    return Cell(technique, backbone, seed, recipe, chosen, technique_options, backbone_options, init, teacher)


def usual_stem(backbone: str, image_size: int, steps: int, options: dict[str, Any]) -> dict[str, Any]:
    """A backbone's options, with the stem that suits the images and the training's length, where they say none.

    Small images leave the stock network's last maps no room; but a halving less costs time that few steps do not repay.
    Where the network takes images so small with another stem alone, it has that one.
    """
    given = "stem" in options or all(option.name != "stem" for option in catalog.entry("backbones", backbone).options)
    if given or image_size > SMALL_IMAGES:
        return options
    stems = ("half", "quarter") if steps >= MANY_STEPS else ("stock", "half", "quarter")
    stem = _first_that_fits(stems, backbone, image_size, json.dumps(options, sort_keys=True))
    return {**options, "stem": stem} if stem not in (None, "stock") else options


@functools.cache
def _first_that_fits(stems: tuple[str, ...], backbone: str, image_size: int, options: str) -> str | None:
    """The first stem that the network can be built with and that takes the images; options in JSON."""
    for stem in stems:
        try:
            with seeded(0):  # to build it draws numbers, and none of the caller's may be
                built = catalog.backbone_builder(backbone, **json.loads(options), stem=stem)()
                check_image_size(built, image_size)
        except BadSetting:
            continue
        return stem
    return None


def usual_recipe(data: Data) -> str:
    """The name of the recipe for so many images of this size, where none is asked for."""
    return "large" if len(data.pool) >= LARGE_POOL and data.pool.image_size >= LARGE_SIZE else "small"


def recipe_of(technique: str, name: str) -> Recipe:
    """A technique's recipe; BadSetting where it has none of that name."""
    if name not in RECIPES:
        raise BadSetting(f"recipe {name!r} is none of {', '.join(RECIPES)}")
    recipe = getattr(catalog.technique(technique), name, None)
    if not isinstance(recipe, Recipe):
        raise BadSetting(f"{technique} has no recipe {name!r}: its class must say {name} = Recipe(...)")
    return recipe


def plan_for(cell: Cell, size: int, resources: Resources) -> Plan:
    """The plan that suits the cell's network on this machine, at images of so many pixels."""
    name = " ".join([cell.backbone, *(f"{key}={value}" for key, value in sorted(cell.backbone_options.items()))])
    return choose(
        resources.device, resources.plan, network=cell.backbone_builder, name=name, size=size, batch=cell.recipe.batch
    )


def build_checked(cell: Cell, size: int) -> Technique:
    """The technique as initialised by the seed; BadSetting if an option's value or the image size cannot work."""
    try:
        technique = cell.build()
        for backbone in (part for part in technique.encoder.modules() if isinstance(part, Backbone)):
            check_image_size(backbone, size)
        _check_views(cell, technique, size)
        make_optimiser(cell.recipe.suited(technique.encoder), technique)
        return technique
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BadSetting(f"{cell.technique} on {cell.backbone} cannot be built: {reason}") from None


def _check_views(cell: Cell, technique: Technique, size: int) -> None:
    """BadSetting if what the technique shows of images of so many pixels is too small for a network of its; whatever
    else fails here, of two images, is not looked at."""
    rng = torch.Generator().manual_seed(0)
    try:
        trial = copy.deepcopy(technique, {id(weights): weights for weights in technique.parameters()})
        refuse_small_parts(trial)
        with evaluating(trial), torch.no_grad():
            trial(*trial.views(torch.rand(2, 3, size, size, generator=rng), rng))
    except TooSmall as error:
        own = {module.name for module in technique.encoder.modules() if isinstance(module, Backbone)}
        stems = _smaller_stems(cell) if error.backbone.name in own else ""  # which move no teacher
        raise BadSetting(
            f"{cell.technique} on {cell.backbone} with images of {size} pixels: {error}; "
            f"give a larger --image-size{stems}, or leave this pair out"
        ) from None
    except Exception:
        return


def _smaller_stems(cell: Cell) -> str:
    """The stems that take smaller images, as an advice; "" where there are none."""
    if all(option.name != "stem" for option in catalog.entry("backbones", cell.backbone).options):
        return ""
    words = {"stock": ", or --stem half or quarter", "half": ", or --stem quarter"}
    return words.get(cell.backbone_options.get("stem", "stock"), "")


def check_batch(batch: int, data: Data) -> None:
    """BadSetting if a batch is larger than all images to learn from, or cannot be split over the processes."""
    if len(data.pool) < batch:
        raise BadSetting(
            f"a batch of {batch} is larger than the {len(data.pool)} images of {data.name}; "
            f"use --batch {len(data.pool)} or less"
        )
    if batch % distributed.size():
        raise BadSetting(
            f"a batch of {batch} cannot be split evenly over {distributed.size()} processes; use --batch "
            f"{max(1, batch // distributed.size()) * distributed.size()}"
        )


def checked(cell: Cell, data: Data, every: int) -> Technique:
    """The technique, after all that can be refused has been: BadData or BadSetting."""
    if len(data.pool) < 2:
        raise BadData(f"{data.name} has {len(data.pool)} image to learn from; a batch needs at least 2")
    check_batch(cell.recipe.batch, data)
    if every < 1:
        raise BadSetting(f"every {every} must be at least 1 epoch")
    return build_checked(cell, data.pool.image_size)


def cell_name(technique: str, backbone: str, seed: int) -> str:
    """Of a run in a study's folder."""
    return f"{technique}-{backbone.replace('/', '_')}-{seed}"
