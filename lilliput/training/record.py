"""What a run says of itself: run.json, every effective setting, and log.jsonl, a row for each epoch."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.backbones import at_the_end, condenses
from lilliput.data.store import Data, Images
from lilliput.errors import BadData, BadSetting
from lilliput.optim.recipe import Recipe
from lilliput.system import cost
from lilliput.system.files import read_whole, write_whole
from lilliput.system.machine import command, commit, this_machine, versions
from lilliput.system.records import of_kinds, read_json
from lilliput.training.cell import Cell
from lilliput.training.initial import as_settings
from lilliput.training.stopping import Stopping

FORMAT = 3  # of runs and studies
EXPORTED = "exported"  # in run.json: of the run this folder has only what was exported


def read_log(folder: Path, upto: int | None = None) -> list[dict]:
    """Rows of log.jsonl up to an epoch; a last line that was cut off is left out."""
    path = folder / "log.jsonl"
    rows = []
    for line in read_whole(path).splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    if odd := [row for row in rows if not isinstance(row, dict) or not isinstance(row.get("epoch"), int)]:
        raise BadData(f"{path} is damaged: a row of it is {odd[0]!r:.80}")
    return [row for row in rows if upto is None or row["epoch"] <= upto]


def write_log(folder: Path, rows: list[dict]) -> None:
    write_whole(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def check_format(number: Any, where: Path) -> None:
    """BadData if a newer Lilliput wrote it."""
    if not isinstance(number, int) or number > FORMAT:
        raise BadData(f"{where} has format {number!r}, this Lilliput reads up to {FORMAT}; install a newer one")


def renewed(recipe: Any, number: int) -> Any:
    """A recipe's settings as format `number` recorded them, in today's: up to the second the warm-up was a share of the
    training, and biases and norms were not decayed before there was a choice."""
    if not isinstance(recipe, dict) or not {"warmup", "epochs"} <= set(recipe):
        return recipe
    recipe = {"decay_vectors": False, **recipe}
    return {**recipe, "warmup": round(recipe["warmup"] * recipe["epochs"], 6)} if number <= 2 else recipe


# names of images and of weights, which their digests identify
SHOWN = {"data": "data_digest", "judge": "judge_digests", "init": "init_digest"}


def same_settings(theirs: dict, ours: dict, folder: Path) -> None:
    """BadSetting naming every setting in which a folder's run differs from the one asked for, as JSON sees them.

    Images and weights are the same by their digest, whatever the name of their folder or file.
    """
    if changed := catalog.changed_files(theirs):
        raise BadSetting(
            f"{folder} was made with another text of {changed[0]}: choose another --out, or give the file as it was"
        )
    renamed = {name for name, digest in SHOWN.items() if theirs.get(digest) and theirs[digest] == ours.get(digest)}
    names = sorted((set(theirs) | set(ours)) - {"own_files"} - renamed)  # own files may lie elsewhere by now
    if others := [line for name in names for line in _differences(name, theirs.get(name), ours.get(name))]:
        raise BadSetting(
            f"{folder} holds another run: {', '.join(others)}; "
            f"choose another --out, or give the settings of that run to go on with it"
        )


def _differences(name: str, theirs: Any, ours: Any) -> list[str]:
    """A line for each setting that differs, of records for each that differs within."""
    theirs, ours = _as_json(theirs), _as_json(ours)
    if isinstance(theirs, dict) and isinstance(ours, dict):
        within = dict.fromkeys([*theirs, *ours])
        return [line for key in within for line in _differences(key, theirs.get(key), ours.get(key))]
    return [] if theirs == ours else [f"{name} is {theirs!r} there and {ours!r} here"]


def _as_json(value: Any) -> Any:
    """Tuples are lists there."""
    return json.loads(json.dumps(value))


PLAN = {"device": str, "precision": str, "channels_last": bool}
RUN = {
    **dict.fromkeys(("technique", "backbone", "recipe", "data"), str),
    **dict.fromkeys(("seed", "image_size", "parameters", "every"), int),
    **dict.fromkeys(("multiply_adds", "multiply_adds_224"), int | None),
    "recipe_settings": {"epochs": int},
    "plan": PLAN,
}
LOGGED = dict.fromkeys(("total_seconds", "images_per_s", "peak_memory_mib", "kwh", "grams_co2"), int | float)


def read_run(folder: Path) -> dict[str, Any]:
    """What run.json says; BadData naming what is missing in it or of another kind."""
    return of_kinds(read_json(folder / "run.json"), RUN, folder / "run.json")


def settings_of(cell: Cell, recipe: Recipe, data: Data, every: int, stopping: Stopping | None) -> dict[str, Any]:
    """Everything that determines the weights and when they are saved."""
    used = dataclasses.asdict(recipe)
    del used["options"], used["bare"], used["presets"]
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
        **digest_meant(data.pool),
        "pool_images": len(data.pool),
        "image_size": data.pool.image_size,
        **as_settings(cell.init),
        "every": every,
        "until_converged": dataclasses.asdict(stopping) if stopping else None,
        **catalog.own_files(techniques=[cell.technique], backbones=[cell.backbone]),
    }


def digest_meant(pool: Images) -> dict[str, str]:
    """For a record, where the digest of the images is not of their pixels."""
    return {"data_digest_of": "names and sizes of the images in the shards, not their pixels"} if pool.streamed else {}


def _defaults(kind: str, name: str) -> dict[str, Any]:
    return {option.name: option.default for option in catalog.entry(kind, name).options}


def circumstances(cell: Cell, size: int, country: str) -> dict[str, Any]:
    """What the run cannot choose, and what follows from its settings."""
    encoder = cell.build_encoder()
    return {
        "format": FORMAT,
        **cost.sizes(encoder, size),
        **({"condensed": cost.sizes(at_the_end(encoder), size)} if condenses(encoder) else {}),
        "dim": encoder.dim,
        **({"teacher_spent": cell.teacher.spent} if cell.teacher else {}),
        "country": country,
        "versions": versions(),
        "machine": this_machine(),
        "commit": commit(),
        "command": command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
