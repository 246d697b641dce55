"""What may differ between trainings of equal seconds, and all that determines one of them."""

import dataclasses
import functools
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import peer

# name -> what differs from the small recipe of a technique and the stock network; `size` multiplies the given one
LEVERS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "as it was": {"optimiser": "sgd", "zero_residuals": False},
    "without zero residuals": {"zero_residuals": False},
    "sgd": {"optimiser": "sgd"},
    "muon": {"optimiser": "muon", "muon_steps": 150},
    "muon .01": {"optimiser": "muon", "muon_rate": 0.33, "muon_steps": 0, "zero_residuals": False},
    "muon .03": {"optimiser": "muon", "muon_rate": 1.0, "muon_steps": 0, "zero_residuals": False},
    "half": {"stem": "half"},
    "quarter": {"stem": "quarter"},
    "1.6 times the size": {"size": 1.6},
    "half, batch 64": {"stem": "half", "batch": 64},
    "half, 2 small views": {"stem": "half", "small_views": 2},
    "half, milder crops": {"stem": "half", "area": 0.3},
    "2 small views": {"small_views": 2},
    "distilled": {"teacher": "simclr resnet18"},  # whatever the technique
    "paper, batch 256": {"recipe": "paper", "batch": 256},  # or the recipe's own, where that is smaller
    "lightly, cifar10": {"by": "lightly", "recipe": "cifar10", "batch": 128},  # extra `bench`
    "lightly, imagenette": {"by": "lightly", "recipe": "imagenette", "batch": 128},
    "lightly, cifar10, batch 32": {"by": "lightly", "recipe": "cifar10", "batch": 32},
}
OF_TRIAL = ("recipe", "batch", "teacher", "by")  # what no technique and no network takes as an option
OF_RECIPE = ("optimiser", "zero_residuals", "muon_rate", "muon_steps")  # what a row tells of the recipe, whatever it is
UNTIMED = ("zero_residuals", "muon_rate", "muon_steps")  # of which no step takes longer
OF_BARE = {"squeezenet"}  # without norms: the recipe's own optimiser and rate stay
WITHOUT_RESIDUALS = {"squeezenet", "shufflenet_v2"}


@dataclass(frozen=True)
class Trial:
    """A cell that is to be trained: all that determines it, but for the number of steps."""

    data: str  # a folder: train/, test/ and, if the pool is more than train/, unlabeled/
    technique: str
    backbone: str
    seed: int
    size: int
    seconds: float
    settings: dict[str, Any]  # those of a lever that the technique, the backbone or the recipe takes
    images_digest: str = ""  # of those that are learned from
    recipe_digest: str = ""  # the settings aside

    @property
    def side(self) -> str:
        return self.settings.get("by", "ours")

    @property
    def key(self) -> str:
        return json.dumps(dataclasses.asdict(self) | {"data": Path(self.data).name}, sort_keys=True)

    @property
    def own_seconds(self) -> float:
        """Without those of its teacher."""
        return self.seconds / 2 if "teacher" in self.settings else self.seconds

    @property
    def paced_by(self) -> str:
        """What its images a second depend on, as a name; lightly's on the files too, which it decodes as it goes."""
        timed = {name: value for name, value in self.settings.items() if name not in UNTIMED}
        files = [self.images_digest] if self.side == "lightly" else []
        return json.dumps([self.technique, self.backbone, self.size, timed, self.recipe_digest, *files], sort_keys=True)


@functools.cache
def digest_of_images(data: str, size: int) -> str:
    from lilliput.datasets import open_data

    return open_data(data, image_size=size).pool.digest[:12]


def digest_of_recipe(technique: str, settings: dict[str, Any]) -> str:
    """Of all that the technique's recipe says, and its teacher's; of lightly's, whatever the technique."""
    from lilliput.system.records import json_digest
    from lilliput.training.cell import recipe_of

    if "by" in settings:
        return json_digest(version(settings["by"]), Path(peer.__file__).read_bytes())[:12]
    used = [recipe_of(technique, settings.get("recipe", "small"))]
    if "teacher" in settings:
        used.append(recipe_of(settings["teacher"].split()[0], "small"))
    return json_digest([dataclasses.asdict(recipe) for recipe in used])[:12]


def own_settings(technique: str, backbone: str, settings: dict[str, Any]) -> dict[str, Any]:
    told = _told_in_full(technique, settings)
    return {name: value for name, value in told.items() if _takes(technique, backbone, name)}


def _told_in_full(technique: str, settings: dict[str, Any]) -> dict[str, Any]:
    """With what the stock network and the technique's recipe say where the lever says nothing."""
    from lilliput.training.cell import recipe_of

    if "by" in settings:
        return settings
    recipe = recipe_of(technique, settings.get("recipe", "small"))
    told = {"stem": "stock", **{name: getattr(recipe, name) for name in OF_RECIPE}, **settings}
    if "batch" in settings:
        told["batch"] = min(settings["batch"], recipe.batch) if "recipe" in settings else settings["batch"]
    return {name: value for name, value in told.items() if told["optimiser"] == "muon" or "muon" not in name}


def _takes(technique: str, backbone: str, name: str) -> bool:
    from lilliput import catalog

    if name == "zero_residuals":
        return backbone not in WITHOUT_RESIDUALS
    if name in OF_TRIAL:
        return True
    if name in catalog.recipe_options():
        return backbone not in OF_BARE
    return any(
        name == option.name
        for kind, own in (("techniques", technique), ("backbones", backbone))
        for option in catalog.entry(kind, own).options
    )
