"""The card beside an export: what it is, from what, how judged, what it cost, and what it is not; in Markdown.

Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, https://arxiv.org/abs/1810.03993; its head is the hub's.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from lilliput.reports import markdown
from lilliput.reports.words import ABSENT, count, flat, short, title
from lilliput.studies import results
from lilliput.system.progress import duration
from lilliput.system.visible import counted
from lilliput.training.record import read_log

FOUND = ("accuracy", "held_out_accuracy")  # metrics of the run's own rows that a card tells


def card(run: Path, record: dict[str, Any], export: dict[str, Any], table: str) -> str:
    """README.md of an export; `record` is run.json, `export` what is written to export.json."""
    kind = "image-classification" if export["classes"] else "image-feature-extraction"
    head = ["---", f"library_name: {export['library_name']}", f"pipeline_tag: {kind}", "tags:"]
    head += [f"- {tag}" for tag in dict.fromkeys(("lilliput", "self-supervised", export["to"]))] + ["---"]
    name = f"{title(record['technique'])} on {record['backbone']}"
    parts = [
        "\n".join(head),
        f"# {markdown.escape(name)}",
        _what(record, export),
        "## How to use it\n\n" + export["use"],
        "## Data and protocol\n\n" + _protocol(record, export),
        "## What it cost\n\n" + _cost(run, record, export["epoch"]),
        "## Figures\n\n" + _figures(run, record, export, table),
        "## Limits\n\n" + markdown.items(_limits(record, export)),
    ]
    return "\n\n".join(parts) + "\n"


def _what(record: dict[str, Any], export: dict[str, Any]) -> str:
    gives = f"scores of {len(export['classes'])} classes" if export["classes"] else f"{record['dim']} features"
    pixels = "bytes in 0..255" if export["uint8"] else "floats in 0..1"
    size = "any height and width" if export["dynamic"] else f"{record['image_size']} x {record['image_size']} pixels"
    inside = "Normalisation is inside." if export["normalised"] else "Mean and deviation of the images stand beside it."
    classes = f" The classes, in order: {markdown.escape(', '.join(export['classes']))}." if export["classes"] else ""
    return f"Images [B, 3, H, W], RGB, {pixels}, {size} -> {gives}. {inside}{classes}"


def _protocol(record: dict[str, Any], export: dict[str, Any]) -> str:
    learned = (
        f"pretrained without labels by {title(record['technique'])} on {record['pool_images']} images of "
        f"{record['data']} at {record['image_size']} px (sha256 of the images {record['data_digest'][:12]}), to "
        f"epoch {export['epoch']} of {record['recipe_settings']['epochs']}, recipe {record['recipe']}, "
        f"seed {record['seed']}, started from {record.get('init') or 'random weights'}"
    )
    lines = [learned, f"options of the technique: {flat(record['technique_options']) or 'none'}"]
    if options := flat(record["backbone_options"]):
        lines.append(f"options of the backbone: {options}")
    if export["judge"]:
        lines.append(
            f"judged by a linear probe on the features of the exported file: fitted to {export['judge']['train']} "
            f"labelled images of {export['judge']['name']}, its weight decay chosen on a tenth of them, accuracy on "
            f"{export['judge']['test']} others"
            + ("; the same probe for the file of eight bits" if export["int8"] else "")
        )
    if eight := export["int8"]:
        line = f"eight bits: {eight['setting']}, ranges of {eight['images']} images of {export['data']}"
        line += ", the classifier's layer in float" if export["classes"] else ""
        if eight["held_out"]:
            line += (
                f"; chosen on {eight['held_out']['images']} of the labelled training images, held out from the probe"
            )
        lines.append(line)
    return markdown.items(lines)


def _cost(run: Path, record: dict[str, Any], epoch: int) -> str:
    rows = [row for row in read_log(run, epoch) if row["epoch"] == epoch]
    if not rows:
        return "No pretraining: these are the weights at its start."
    spent = rows[-1]
    return markdown.items(
        [
            f"{duration(spent['total_seconds'])}, {short(spent['kwh'])} kWh, {short(spent['grams_co2'])} g of CO2 "
            f"(codecarbon, electricity of {record.get('country', 'USA')}) on {record['machine']['processor']}",
            f"{count(record['parameters'])} parameters; multiply-adds of an image: "
            + (ABSENT if record["multiply_adds"] is None else f"{count(record['multiply_adds'])}"),
        ]
        + ([f"without what {record['init']} had cost, from which it started"] if record.get("init") else [])
    )


def _figures(run: Path, record: dict[str, Any], export: dict[str, Any], table: str) -> str:
    parts = [table, "![accuracy, time, size, energy](figure.png)", f"{export['said']}."]
    parts.append(f"Times of one image on {export['machine']['processor']}, {counted(export['threads'], 'thread(s)')}.")
    if len(rows := rows_of(run, record, export["epoch"])):
        lines = [
            [markdown.escape(row.judge), markdown.escape(f"{row.probe} {row.metric}"), f"{row.value:.3f}"]
            for row in rows.itertuples()
        ]
        parts.append("As the run was judged:\n\n" + markdown.table(["judge", "metric", "value"], lines))
    return "\n\n".join(parts)


def rows_of(run: Path, record: dict[str, Any], epoch: int) -> pd.DataFrame:
    """The accuracies of the encoder of that epoch, from the run's own results.csv and its study's."""
    places = [place for place in (run, run.resolve().parent.parent) if (place / "results.csv").exists()]
    found = [results.read(place) for place in places]
    rows = pd.concat(found) if found else pd.DataFrame(columns=results.COLUMNS)
    for column in ("technique", "backbone", "seed"):
        rows = rows[rows[column] == record[column]]
    return rows[(rows["epoch"] == epoch) & rows["metric"].isin(FOUND)]


def _limits(record: dict[str, Any], export: dict[str, Any]) -> list[str]:
    lines = [
        f"it has seen images of {record['image_size']} px alone; squeeze others to that size before",
        "what it takes for alike follows the images that it has learned from; nothing was tried for fairness or safety",
        "who may use the weights depends on these images' owners; this card states no licence",
    ]
    if export["judge"] is None:
        lines.append("no labels were given, so its accuracy is not known")
    else:
        lines.append(
            "one encoder of one seed: another seed differs by more than what the test images' number leaves open"
        )
    return lines
