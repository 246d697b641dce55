"""What the readers of run.json, study.json, log.jsonl and traces count on finding there.

A seal tells damage, not who made it: so the kinds of values are checked before they are used.
"""

from pathlib import Path
from typing import Any

from lilliput.errors import BadData
from lilliput.files import read_json

PLAN = {"device": str, "precision": str, "channels_last": bool}
RUN = {
    **dict.fromkeys(("technique", "backbone", "recipe", "data"), str),
    **dict.fromkeys(("seed", "image_size", "parameters", "every"), int),
    **dict.fromkeys(("multiply_adds", "multiply_adds_224"), int | None),
    "recipe_settings": {"epochs": int},
    "plan": PLAN,
}
LOGGED = dict.fromkeys(("total_seconds", "images_per_s", "peak_memory_mib", "kwh", "grams_co2"), int | float)
STUDY = {
    **dict.fromkeys(("pool_images", "test_images", "image_size", "epochs"), int),
    "judge": str,
    "classes": [str],
}
IMAGES = {"judge_digests": [str], "judge_origin": {"digest": str, "left_out": [int]}}
JUDGED = {"plan": PLAN, "probes": dict, "versions": dict, "machine": {"processor": str}}


def read_run(folder: Path) -> dict[str, Any]:
    """What run.json says; BadData naming what is missing in it or of another kind."""
    return of_kinds(read_json(folder / "run.json"), RUN, folder / "run.json")


def read_study(folder: Path) -> dict[str, Any]:
    """What study.json says; BadData naming what is missing in it or of another kind."""
    return of_kinds(read_json(folder / "study.json"), STUDY, folder / "study.json")


def of_kinds(record: dict[str, Any], kinds: dict[str, Any], where: str | Path) -> dict[str, Any]:
    """The record, if what it says is of these kinds: types, [type] for lists, or again names and their kinds."""
    for name, kind in kinds.items():
        if name not in record or not _is_of(record[name], kind, where):
            raise BadData(f"{where} is damaged: its {name} is {record.get(name)!r:.80}; move it away to start over")
    return record


def _is_of(value: Any, kind: Any, where: str | Path) -> bool:
    if isinstance(kind, dict):
        return isinstance(value, dict) and bool(of_kinds(value, kind, where))
    if isinstance(kind, list):
        return isinstance(value, list) and all(isinstance(item, kind[0]) for item in value)
    if isinstance(value, int) and abs(value) >= 2**63:  # JSON has no largest number, floats and tables have
        return False
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
