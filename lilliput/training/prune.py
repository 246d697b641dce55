"""A run made thinner: its last encoder loses channels by ThiNet, and the technique that trained it lets it recover.

The folder is a run's like any other, started from `pruned.safetensors`: encoder 0 is the pruned one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.backbones import Backbone, links
from lilliput.data.store import Data, spaced
from lilliput.errors import BadData, BadSetting
from lilliput.optim.recipe import Recipe
from lilliput.probes import measure_batch_norm
from lilliput.system.files import read_whole
from lilliput.system.plan import Plan
from lilliput.system.progress import say
from lilliput.system.resources import Resources
from lilliput.system.tensors import read_tensors
from lilliput.training import run
from lilliput.training.cell import Cell
from lilliput.training.encoders import load_encoder, save_encoder, saved_encoders
from lilliput.training.initial import Teacher, init_from
from lilliput.training.record import read_run, renewed
from lilliput.training.teacher import teacher_of
from lilliput.training.thinet import thin

PRUNED = "pruned.safetensors"
RATE = 0.1  # of the run's learning rate: the weights are nearly where they should be
EPOCHS = 0.1  # of the run's


@dataclass(frozen=True)
class Pruning:
    """What is dropped, and how the rest recovers."""

    keep: float = 0.5  # share of the channels, of every convolution that may lose some
    images: int = 1000  # without labels, by which channels are chosen
    seed: int = 0
    epochs: int | None = None  # of recovery
    lr: float | None = None  # at its peak

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise BadSetting(f"keep {self.keep} must be a share, 0 < keep <= 1")


def prune(folder: Path, data: Data, out: Path, pruning: Pruning, plan: Plan, country: str = "USA") -> Path:
    """Prune the last encoder of the run in `folder` into `out`, and train it on; goes on where that was interrupted.

    BadSetting where `out` holds another run or the network has no channels that may go.
    """
    record = read_run(folder)
    catalog.check_known(record)
    saved = list(saved_encoders(folder).values())
    if not saved:
        raise BadData(f"no encoder_*.safetensors in {folder}; is it the folder of a run?")
    recovery = recovery_of(record, folder, pruning)
    chosen_by = {
        "encoder": hashlib.sha256(read_whole(saved[-1])).hexdigest(),
        "keep": pruning.keep,
        "images": pruning.images,
        "seed": pruning.seed,
        "data": data.pool.digest,
    }
    file = out / PRUNED
    if file.exists():
        header = read_tensors(file)[1]
        if header.get("pruned") != chosen_by:
            raise BadSetting(f"{file} was pruned otherwise: choose another --out, or give the settings of that pruning")
    elif (out / "run.json").exists():
        raise BadSetting(f"{out} holds another run: choose another --out")
    else:
        header = _write_pruned(saved[-1], data, file, pruning, plan, {"pruned": chosen_by})
    cell = Cell(
        record["technique"],
        record["backbone"],
        pruning.seed,
        record["recipe"],
        recovery,
        _own_options(record),
        catalog.typed_options("backbones", record["backbone"], header["backbone_options"]),
        init_from(file, file.name),
        _teacher(record, folder),
    )
    return run.pretrain(cell, data, out, every=recovery.epochs, resources=Resources(plan.device, plan.fixed(), country))


def recovery_of(record: dict[str, Any], folder: Path, pruning: Pruning) -> Recipe:
    """The run's own settings, for fewer epochs at a lower rate."""
    try:
        recipe = Recipe(**renewed(record["recipe_settings"], record.get("format", 0)))
    except TypeError as error:
        raise BadData(f"{folder / 'run.json'} has other settings of a recipe than this Lilliput ({error})") from None
    epochs = pruning.epochs or max(1, round(EPOCHS * recipe.epochs))
    return recipe.lasting(epochs).replace(lr=recipe.lr * RATE if pruning.lr is None else pruning.lr)


def _own_options(record: dict[str, Any]) -> dict[str, Any]:
    """The technique's options where they are not its defaults: those that are computed are recorded by their text."""
    name = record["technique"]
    defaults = {option.name: option.default for option in catalog.entry("techniques", name).options}
    recorded = {key: value for key, value in record["technique_options"].items() if key != "teacher"}
    own = {key: value for key, value in recorded.items() if value != defaults.get(key)}
    taught = {"teacher": record["technique_options"]["teacher"]} if "teacher" in record["technique_options"] else {}
    return {**catalog.typed_options("techniques", name, own), **taught}


def _teacher(record: dict[str, Any], folder: Path) -> Teacher | None:
    """That of the run, if it had one; BadSetting where it is no more what it was."""
    recorded = record["technique_options"].get("teacher")
    if recorded is None:
        return None
    teacher = teacher_of(recorded["name"])
    if teacher.as_option != recorded:
        raise BadSetting(f"{folder} learned from another {recorded['name']} than lies there now; put it back to prune")
    return teacher


def _write_pruned(
    source: Path, data: Data, file: Path, pruning: Pruning, plan: Plan, told: dict[str, Any]
) -> dict[str, Any]:
    """The header of the file that it writes."""
    encoder, (_, header) = load_encoder(source), read_tensors(source)
    if not isinstance(encoder, Backbone):
        raise BadSetting(
            f"{source}: the encoder of {header['technique']} is of several networks, and one can be pruned"
        )
    if not links(encoder):
        raise BadSetting(f"{encoder.name} has no convolution that may lose channels: its maps are added or joined")
    images = data.pool.take(spaced(len(data.pool), pruning.images))
    left = thin(plan.place(encoder), images, pruning.keep, plan=plan, seed=pruning.seed)
    if left:  # not the paper's, whose VGG-16 has none: what was dropped is missed most by the statistics of batch norm
        measure_batch_norm(encoder, images, plan=plan)
    options = header["backbone_options"]
    kept = {**(options.get("channels_kept") or {}), **left}
    header = {**header, "backbone_options": {**options, "channels_kept": kept}, "epoch": 0, **told}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_encoder(file, encoder, header)
    say(f"{file}: {len(left)} convolutions lost channels")
    return header
