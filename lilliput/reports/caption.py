"""What stands above the tables of a judge: the conditions of its numbers, and how sure they are."""

import re
from typing import Any

from lilliput.catalog import BASELINES
from lilliput.reports import markdown
from lilliput.reports.grid import Grid, distinct
from lilliput.reports.words import flat, share
from lilliput.studies.results import CELL
from lilliput.studies.statistics import accuracy_interval

COUNTS = {
    "pool_images": "images without labels",
    "train_images": "labelled training images",
    "test_images": "test images",
    "epochs": "epochs",
}
SETTINGS = {
    "every": "a checkpoint every",
    "batch": "batch",
    "recipe": "recipe",
    "init": "started from",
    "seeds": "seeds",
    "machine": "machine",
    "commit": "commit",
    "versions": "versions",
    "went_on": "went on under",
}


def caption(grid: Grid) -> str:
    """Two paragraphs in Markdown; what neither study nor rows nor runs tell is left out."""
    data, size = _condition(grid, "data"), _condition(grid, "image_size")
    judge = grid.judge or flat(grid.material.settings.get("judge"))
    counts = {words: _condition(grid, setting) for setting, words in COUNTS.items()}
    settings = {words: _condition(grid, setting) for setting, words in SETTINGS.items()}
    facts = [
        f"Pretrained on {_data(data)}" if data else "",
        f"judged on {_data(judge)}" if judge else "",
        f"{size} px" if size else "",
        *(f"{value} {words}" for words, value in counts.items() if value),
        *(f"{words} {value}" for words, value in settings.items() if value),
    ]
    said = filter(None, [_budgets(grid), _parts(grid), _uncertainty(grid)])
    return f"{markdown.escape('; '.join(filter(None, facts)))}.\n\n{' '.join(said)}"


def _budgets(grid: Grid) -> str:
    """That the techniques were not trained alike long, where they were not."""
    of = grid.material.of_recipe
    budgets = {technique: (of(technique, "epochs"), of(technique, "batch")) for technique in grid.techniques}
    if len(set(filter(all, budgets.values()))) < 2:
        return ""
    told = "; ".join(f"{name} {epochs} epochs, batch {batch}" for name, (epochs, batch) in budgets.items() if epochs)
    return f"**Budgets differ**, so the columns of different techniques do not compare alike: {markdown.escape(told)}."


def _parts(grid: Grid) -> str:
    """Whose batches went through the backbone in parts: batch norm saw no more than a part at a time."""
    parts: dict[str, int] = {}
    for run in grid.material.runs:
        plan, technique = run.get("plan"), run.get("technique")
        number = plan.get("accumulate") if isinstance(plan, dict) else None
        if isinstance(number, int) and number > 1 and technique in grid.techniques:
            parts[technique] = max(number, parts.get(technique, 1))
    told = ", ".join(f"{name} {number}" for name, number in parts.items())
    return f"Batch norm saw a batch in parts: {markdown.escape(told)}." if told else ""


def _condition(grid: Grid, setting: str) -> str:
    """A setting by the recipes (each technique may have its own), else by the study, the rows, or the runs."""
    material, rows = grid.material, grid.rows
    of_recipes = [material.of_recipe(technique, setting) for technique in grid.techniques]
    value: Any = distinct(filter(None, of_recipes)) or material.settings.get(setting)
    if _is_empty(value) and setting in rows:
        value = distinct(rows[setting].dropna())
    if _is_empty(value):
        value = distinct(flat(run[setting]) for run in material.runs if run.get(setting))
    return flat(value)


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {})


def _uncertainty(grid: Grid) -> str:
    seeds = grid.rows[~grid.rows.technique.isin(BASELINES)].seed.nunique()
    if seeds > 1:
        return "± is the half-width of the 95 % t-interval of the mean over seeds."
    text = "One seed: nothing is known of the spread between seeds."
    images = _test_images(grid)
    _, half = accuracy_interval([0.5], images)
    if half is not None:
        text += f" The {images} test images alone leave ±{share(half)} (95 %) about an accuracy of .5."
    return text


def _test_images(grid: Grid) -> int | None:
    """By the study, else by the confusions of an encoder."""
    asked = grid.material.settings.get("test_images")
    if isinstance(asked, int):
        return asked
    confusions = grid.rows[grid.rows.metric.str.startswith("confusion/")]
    counts = confusions.groupby([*CELL, "epoch", "probe"]).value.sum()
    return round(counts.max()) if len(counts) else None


def _data(name: str) -> str:
    return f"{name} (synthetic)" if "scenes" in re.split(r"\W+", name) else name
