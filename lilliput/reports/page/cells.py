"""What the page shows of a cell that is opened: its curve, figures, neighbours, what its score hangs on, its mistakes.

All of it as data; page.js draws it. An image is there once, whichever cells show it.
"""

from typing import Any

import numpy as np
import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.data.store import Images
from lilliput.errors import LilliputError
from lilliput.reports.page import html
from lilliput.reports.page.looks import PANEL, Look, Sample, looks_of
from lilliput.reports.page.pictures import METHODS, overlaid, surest_mistakes
from lilliput.reports.page.section import Inspection, Study
from lilliput.reports.words import count, share, shortest, title
from lilliput.studies.again import cell_of, command_of
from lilliput.studies.results import CELL
from lilliput.system.progress import duration

QUERIES, NEIGHBOURS, CASES, MISTAKES = 4, 4, 4, 6  # that are shown
SIDE = 64  # pixels of a map


def cells_of(study: Study, inspection: Inspection | None) -> dict[str, Any]:
    """All cells by "technique backbone"; without pictures where there is no inspection."""
    sides = study.learned
    standing = [cell for cell in study.standings if cell.technique not in BASELINES]
    costs = study.rows.groupby(CELL[:2])[["kwh", "parameters"]].max()
    cells = {}
    for cell in standing:
        kwh, parameters = costs.loc[(cell.technique, cell.backbone)]
        cells[f"{cell.technique} {cell.backbone}"] = {
            "name": cell.name,
            "technique": cell.technique,
            "backbone": cell.backbone,
            "accuracy": round(cell.accuracy, 4),
            "half": round(cell.half, 4),
            "facts": {
                "accuracy": cell.share,
                "untrained network": sides.get((cell.technique, cell.backbone), "not judged"),
                "checkpoint": f"epoch {cell.epoch:.0f}",
                "pretraining": f"{duration(cell.seconds)}, {shortest(kwh * 1000)} Wh" if pd.notna(kwh) else "",
                "network": f"{count(parameters)} parameters, {count(cell.multiply_adds)} multiply-adds",
            },
            "command": _command(study, cell.technique, cell.backbone),
            **_curve(study, cell.technique, cell.backbone),
        }
    data: dict[str, Any] = {"cells": cells, "baselines": _baselines(study), "images": {}}
    if inspection:
        _add_pictures(data, inspection)
    return data


def _command(study: Study, technique: str, backbone: str) -> str:
    """What trains and judges the cell's first seed again; empty where it began with weights, or its record is older."""
    seed = int(study.rows[(study.rows.technique == technique) & (study.rows.backbone == backbone)].seed.min())
    try:
        return command_of(study.record, cell_of(study.record, technique, backbone, seed))
    except (LilliputError, KeyError, TypeError):
        return ""


def _curve(study: Study, technique: str, backbone: str) -> dict[str, Any]:
    """Test accuracy of every checkpoint, means over seeds; epoch 0 is the network before any step."""
    rows = study.rows
    rows = rows[(rows.technique == technique) & (rows.backbone == backbone)]
    values = rows[(rows.probe == "linear") & (rows.metric == "accuracy")].groupby("epoch").value.mean().dropna()
    return {"epochs": values.index.tolist(), "values": values.round(4).tolist()}


def _baselines(study: Study) -> dict[str, dict[str, float]]:
    """By backbone, "" for what has none: the accuracy of each baseline."""
    found: dict[str, dict[str, float]] = {}
    for cell in study.standings:
        if cell.technique in BASELINES:
            found.setdefault(cell.backbone, {})[title(cell.technique)] = round(cell.accuracy, 4)
    return found


def _add_pictures(data: dict[str, Any], inspection: Inspection) -> None:
    sample, images = inspection.sample, data["images"]
    data |= {"classes": sample.test.classes, "methods": [METHODS[method] for method in PANEL]}
    names = [(cell["technique"], cell["backbone"]) for cell in data["cells"].values()]
    for look in looks_of(inspection.study.folder, sample, names):
        cell = data["cells"][f"{look.technique} {look.backbone}"]
        cell["neighbours"] = _neighbours(look, sample, images)
        cell["saliency"] = _saliency(look, sample, images)
        cell["mistakes"] = _mistakes(look, sample, images)
        cell["right"] = (look.scores.argmax(1) == sample.test.labels).astype(int).tolist()


def _neighbours(look: Look, sample: Sample, images: dict[str, str]) -> list[dict[str, Any]]:
    """The first classes' queries, and what is nearest to them."""
    lines = []
    for place, query in enumerate(sample.queries[:QUERIES]):
        near = look.neighbours[place][:NEIGHBOURS]
        is_right = (sample.train.labels[near] == sample.test.labels[query]).tolist()
        keys = [_kept(images, "train", sample.train, int(row)) for row in near]
        lines.append({"image": _kept(images, "test", sample.test, int(query)), "near": keys, "right": is_right})
    return lines


def _saliency(look: Look, sample: Sample, images: dict[str, str]) -> list[dict[str, Any]]:
    """Cases of the first classes, with a map over each by the methods of the panel."""
    found, truth = [], sample.test.labels
    for place, row in enumerate(look.cases[:CASES]):
        overlays = [_overlay(sample.test, int(row), look.map_of(method)[place]) for method in PANEL]
        guess = int(look.scores[row].argmax())
        image = _kept(images, "test", sample.test, int(row))
        found.append({"image": image, "maps": overlays, "truth": int(truth[row]), "guess": guess})
    return found


def _mistakes(look: Look, sample: Sample, images: dict[str, str]) -> list[dict[str, Any]]:
    """The surest."""
    found = []
    for row in surest_mistakes(look, sample.test.labels)[:MISTAKES]:
        guess = int(look.scores[row].argmax())
        chance = share(float(look.scores[row, guess]), 2)
        image = _kept(images, "test", sample.test, row)
        found.append({"image": image, "truth": int(sample.test.labels[row]), "guess": guess, "chance": chance})
    return found


def _kept(images: dict[str, str], split: str, store: Images, row: int) -> str:
    """The image's key among those of the page, to which it is added."""
    key = f"{split} {row}"
    if key not in images:
        images[key] = html.thumbnail(store, row)
    return key


def _overlay(store: Images, row: int, saliency_map: np.ndarray) -> str:
    pixels = overlaid(store, row, saliency_map, SIDE).round().astype(np.uint8)
    return html.jpeg(pixels.transpose(2, 0, 1), SIDE)
