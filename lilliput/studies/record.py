"""What a study says of itself: study.json."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from lilliput import catalog
from lilliput.data.store import Images, Subset, store_at_rest
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.studies.grid import Grid
from lilliput.system import records
from lilliput.system.files import clear_drafts, set_aside
from lilliput.system.locks import locked
from lilliput.system.machine import commit, this_machine, versions
from lilliput.system.records import of_kinds, read_json, write_json
from lilliput.training.cell import Cell
from lilliput.training.initial import IMAGENET, as_settings
from lilliput.training.record import FORMAT, PLAN, SHOWN, check_format, digest_meant, renewed, same_settings

GROWS = ("techniques", "backbones", "seeds", "probes", "baselines")  # settings of a study to which more may be added
BUDGET = ("epochs", "batch")  # under the paper's recipe each technique has its own; here stand the largest
BEGUN = ("country", "machine", "versions", "commit")  # the circumstances of a study's first work
KEYED = ("recipes", "options", "backbone_options", "probe_options")  # and those by technique, backbone or probe


def open_record(grid: Grid, out: Path) -> dict[str, Any]:
    """Write study.json, or see that the one there is of this study, and return it. Cells may be added to it."""
    settings = settings_of(grid)
    try:
        holds_else = out.exists() and any(not path.name.startswith(".") for path in out.iterdir())
        if holds_else and not any(out.glob("study.json*")):
            raise BadSetting(f"{out} is not empty and holds no study; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            clear_drafts(out)
            joined = _joined(settings, out)
            kinds = {name: catalog.technique(name).contrastive for name in joined["techniques"]}
            record = {**circumstances(grid), **joined, "contrastive": kinds}
            write_json(out / "study.json", record)
        (out / "cells").mkdir(exist_ok=True)
    except OSError as error:
        raise LilliputError(f"cannot write in {out}: {error.strerror}; choose another --out") from None
    return record


def circumstances(grid: Grid) -> dict[str, Any]:
    """On what the work is done, which may be another thing when it goes on."""
    return {
        "country": grid.resources.country,
        "machine": this_machine(),
        "versions": versions(),
        "commit": commit(),
    }


def went_on(grid: Grid, out: Path) -> None:
    """Add to study.json under what circumstances its work went on, where none of its work was done under them."""
    with locked(out):
        record, now = read_json(out / "study.json"), circumstances(grid)
        later = record.get("went_on")
        known = [{name: record.get(name) for name in now}, *(later if isinstance(later, list) else [])]
        if now not in known:
            write_json(out / "study.json", {**record, "went_on": [*known[1:], now]})


def _joined(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """These settings with those of the study that is there, which may only grow; its plans, and on what it began."""
    try:
        record = read_json(out / "study.json") if (out / "study.json").exists() else None
    except BadData as error:
        set_aside(out / "study.json", error)
        record = None
    if record is None:  # none, or damaged; and then the cells that were begun know their plans
        return {**settings, "plans": _plans_of_cells(out)}
    return grown(brought_up(record, out), settings, out)


def brought_up(record: dict[str, Any], out: Path) -> dict[str, Any]:
    """A record as this Lilliput writes it, whatever the format in which it lay; BadData or UnknownName where it knows
    none of that, or a thing that the record names not."""
    record = dict(record)
    check_format(number := record.pop("format", None), out)
    record["recipes"] = {name: renewed(recipe, number) for name, recipe in record.get("recipes", {}).items()}
    catalog.check_known(record)
    record["backbone_options"] = _by_backbone(record, out)
    return record


def grown(record: dict[str, Any], settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """What is known of a study of that record, with these settings beside; BadSetting where they are of another."""
    settings = dict(settings)
    grows = (*GROWS, *KEYED, "format", *(BUDGET if settings["recipe"] == "paper" else ()))
    fixed = {key: value for key, value in settings.items() if key not in grows}
    same_settings({key: record.get(key) for key in (*fixed, "own_files")}, fixed, out)
    for key in KEYED:
        theirs = record.get(key, {})
        both = {name: value for name, value in settings[key].items() if name in theirs}
        same_settings({name: theirs[name] for name in both}, both, out)
        settings[key] = {**theirs, **settings[key]}
    for key in BUDGET:
        settings[key] = max(settings[key], record.get(key, 0))
    for key in GROWS:
        settings[key] = list(dict.fromkeys([*record.get(key, []), *settings[key]]))
    if own_files := {**record.get("own_files", {}), **settings.get("own_files", {})}:
        settings["own_files"] = own_files
    begun = {name: record[name] for name in (*BEGUN, *SHOWN, "went_on") if name in record}
    return {**settings, **begun, "plans": record.get("plans", {})}


def _by_backbone(record: dict[str, Any], out: Path) -> dict[str, dict[str, Any]]:
    """Backbone -> its options; older studies had the same for all, none of them an object."""
    options = record.get("backbone_options", {})
    of_kinds({"backbone_options": options}, {"backbone_options": dict}, out / "study.json")
    if options and all(isinstance(value, dict) for value in options.values()):
        return options
    return {backbone: dict(options) for backbone in record.get("backbones", [])}


def _plans_of_cells(out: Path) -> dict[str, dict]:
    plans = {}
    for path in out.glob("cells/*/run.json"):
        with contextlib.suppress(BadData, KeyError):
            record = read_json(path)
            plans[record["backbone"]] = {**record["plan"], "accumulate": None}  # a cell knows its own parts
    return plans


def settings_of(grid: Grid) -> dict[str, Any]:
    first, pool = grid.cells[0], grid.data.pool
    train, test = grid.labelled.judging
    recipes = {cell.technique: dataclasses.asdict(cell.recipe) for cell in grid.cells}
    for recipe in recipes.values():
        del recipe["presets"]  # what is taken of them stands in the others
    return {
        "format": FORMAT,
        "techniques": list(dict.fromkeys(cell.technique for cell in grid.cells)),
        "backbones": list(dict.fromkeys(cell.backbone for cell in grid.cells)),
        "seeds": list(dict.fromkeys(cell.seed for cell in grid.cells)),
        "probes": list(grid.probes),
        "baselines": list(grid.baselines),
        "probe_options": {name: options for name, options in grid.probes.items() if options},
        "data": grid.data.name,
        "data_digest": pool.digest,
        **digest_meant(pool),
        "pool_images": len(pool),
        **judges(grid.labelled.name, train, test),
        "image_size": pool.image_size,
        **_start(first),
        "epochs": grid.epochs,
        "every": grid.every,
        "until_converged": dataclasses.asdict(grid.stopping) if grid.stopping else None,
        "batch": max(cell.recipe.batch for cell in grid.cells),
        "recipe": first.recipe_name,
        "recipes": recipes,
        "options": {cell.technique: cell.technique_options for cell in grid.cells},
        "backbone_options": {cell.backbone: cell.backbone_options for cell in grid.cells},
        **catalog.own_files(
            techniques=[cell.technique for cell in grid.cells],
            backbones=[cell.backbone for cell in grid.cells],
            probes=grid.probes,
        ),
    }


def judges(name: str, train: Images, test: Images) -> dict[str, Any]:
    """What a record says of the labelled images that judge."""
    return {
        "judge": name,
        "judge_digests": [train.digest, test.digest],
        **origins(train, test),
        "train_images": len(train),
        "test_images": len(test),
        "classes": train.classes if train.is_labelled else [],
    }


def _start(cell: Cell) -> dict[str, str | None]:
    """What all cells start from; of ImageNet's weights each backbone has its own, whose digest its cells record."""
    start = as_settings(cell.init)
    return start | {"init_digest": None} if start["init"] == IMAGENET else start


def shared_settings(record: dict[str, Any], backbone: str) -> dict[str, Any]:
    """What is the same for all rows of a study of a backbone (none: ""), however the study has grown."""
    of_backbone = {**record, "backbone_options": record["backbone_options"].get(backbone, {})}
    left_out = {*GROWS, *KEYED, "plans", "went_on"} - {"backbone_options"}
    return {key: value for key, value in of_backbone.items() if key not in left_out}


STUDY = {
    **dict.fromkeys(("pool_images", "test_images", "image_size", "epochs"), int),
    "judge": str,
    "classes": [str],
}
ORIGIN = {"digest": str, "left_out": [int]}
IMAGES = {"judge_digests": [str], "judge_origin": ORIGIN, "test_origin": ORIGIN}
JUDGED = {"plan": PLAN, "probes": dict, "versions": dict, "machine": {"processor": str}}


def read_study(folder: Path) -> dict[str, Any]:
    """What study.json says; BadData naming what is missing in it or of another kind."""
    return of_kinds(read_json(folder / "study.json"), STUDY, folder / "study.json")


def read_unchecked(path: Path) -> dict[str, Any]:
    """What study.json or run.json says, whatever its kinds and seal; {} where there is none or it is torn.

    For a reader who can do with less: a table is made of results.csv alone if need be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def judging_images(record: dict[str, Any], given: tuple[Images, Images] | None = None) -> tuple[Images, Images]:
    """The labelled images that judged, train and test, as study.json or a trace names them.

    Those `given`, or the stores that lie here still. Raises BadData with the way out where they are gone, or others.
    """
    digests = record.get("judge_digests", ["", ""])
    of = {name: record.get(name) for name in ("judge_origin", "test_origin")}
    kinds = {name: origin or {"digest": "", "left_out": []} for name, origin in of.items()}
    records.of_kinds({"judge_digests": digests, **kinds}, IMAGES, "the record of what judged")
    if len(digests) != 2:
        raise BadData(f"of judge_digests there are {len(digests)}, not those of the training and the test images")
    pairs = zip(given or (None, None), digests, of.values(), strict=True)
    train, test = (_named(images, digest, origin) for images, digest, origin in pairs)
    if [train.digest, test.digest] != digests:
        raise BadData("these are not the images that judged: their digests differ")
    return train, test


def _named(given: Images | None, digest: str, origin: dict[str, Any] | None) -> Images:
    """The images of this digest, which were `origin`'s without some of them."""
    images = given or _at_rest(origin["digest"] if origin else digest)
    if not origin or images.digest == digest:
        return images
    whole = images.store if isinstance(images, Subset) else images  # it may have been split otherwise
    return whole.take(np.setdiff1d(np.arange(len(whole)), origin["left_out"]))


def origins(train: Images, test: Images) -> dict[str, Any]:
    """For a record: what the labelled images were, before some of them were left out."""
    named = {"judge_origin": train, "test_origin": test}
    return {name: images.origin if isinstance(images, Subset) else None for name, images in named.items()}


def _at_rest(digest: str) -> Images:
    store = store_at_rest(digest)
    if store is None:
        raise BadData("the images that judged this study are no longer prepared here; name them with --data")
    return store
