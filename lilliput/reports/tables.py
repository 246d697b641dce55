"""Rows to reading: the table in the shape of the paper's Table 1, its costs, and the figures.

Reads <study>/results.csv, study.json and the run folders below cells/, whichever of them are there; never memory.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lilliput.errors import BadData
from lilliput.reports import figures, paper
from lilliput.reports.words import told
from lilliput.studies.results import BASELINES, CELL, read
from lilliput.studies.statistics import finished, interval, select, wilson
from lilliput.system.files import write_whole
from lilliput.system.progress import duration
from lilliput.training.cell import cell_name

ABSENT = "–"
_BASELINE_NAMES = {
    "pixels": "pixels, no network",
    "random_init": "random init",
    "random_init_measured": "random init, batch norm measured",
    "supervised": "supervised, from scratch",
}
_CHOICES = {
    "best": "highest test accuracy of all checkpoints: the paper's figure, which selects on the test images",
    "last": "last checkpoint",
    "chosen": "checkpoint chosen on held-out training images",
}
_PROBES = {"linear": "Linear probe", "knn": "Nearest neighbours", "finetune": "Fine-tuning"}


class Gap(NamedTuple):
    """A cell of the grid that is missing or incomplete, and why."""

    technique: str
    backbone: str
    seed: int | None
    reason: str


class Grid(NamedTuple):
    """What a table is about: rows of one judge, its names in order, and what is missing."""

    rows: pd.DataFrame
    techniques: list[str]
    backbones: list[str]
    gaps: list[Gap]
    size: str  # of the images in pretraining
    study: dict


def report(folder: str | Path) -> list[Path]:
    """Write table.md, curves.csv, figure1, figure2 and cost (.png and .svg) into the study's folder; say which."""
    folder = Path(folder)
    write_whole(folder / "table.md", page(folder).encode())
    paths, drawn = [folder / "table.md", folder / "curves.csv"], []
    study = _json(folder / "study.json")
    for judge, suffix, rows in _judged(read(folder)):
        rows = _comparable(folder, rows, study)
        drawn.append(figures.curves(rows).assign(judge=judge))
        for name in _figures(rows):
            paths += figures.save(_FIGURES[name](rows), folder / f"{name}{suffix}")
    curves = pd.concat(drawn, ignore_index=True)
    write_whole(folder / "curves.csv", curves.to_csv(index=False, lineterminator="\n").encode())
    return paths


def page(folder: str | Path) -> str:
    """The text of table.md: a section of tables for each data set that the encoders were judged on."""
    folder = Path(folder)
    rows, study = read(folder), _json(folder / "study.json")
    if rows.empty and not study:
        raise BadData(f"{folder} holds neither results.csv nor study.json; name the folder of a study")
    sections = []
    for judge, suffix, own in _judged(rows):
        pictures = [f"{name}{suffix}.png" for name in _figures(_comparable(folder, own, study))]
        sections.append(_section(folder, _grid(folder, own, study), study, judge, pictures))
    return "\n\n".join(sections) + "\n"


def rank_agreement(rows: pd.DataFrame) -> tuple[float | None, int]:
    """Spearman's correlation of our best accuracies (means over seeds) with the paper's Table 1, and of how many cells.

    None where fewer than two cells are common or one side does not vary. Rows are those of one judge.
    """
    ours, theirs = [], []
    for (technique, backbone), (mean, _) in _means(select(rows), "best").items():
        place = (paper.technique(technique), paper.backbone(backbone))
        if place in paper.TABLE_1:
            ours.append(mean)
            theirs.append(paper.TABLE_1[place])
    pairs = pd.DataFrame({"ours": ours, "theirs": theirs}).rank()  # ties share the mean of their ranks
    if len(pairs) < 2 or (pairs.nunique() < 2).any():
        return None, len(pairs)
    return float(pairs.ours.corr(pairs.theirs)), len(pairs)


def _judged(rows: pd.DataFrame) -> Iterable[tuple[str, str, pd.DataFrame]]:
    """Each judge, what its figures' names end in, and its rows."""
    for number, judge in enumerate(dict.fromkeys(rows.judge) or [""], start=1):
        # A number, not the judge's name: that is a user's word, and this a file.
        yield judge, "" if number == 1 else f"-{number}", rows[rows.judge == judge]


_FIGURES = {"figure1": figures.figure1, "figure2": figures.figure2, "cost": figures.cost_figure}


def _figures(rows: pd.DataFrame) -> list[str]:
    """Those that there is something to draw for."""
    if figures.curves(rows).empty:
        return []
    costs = figures.costs_and_accuracy(rows)[["multiply_adds", "kwh"]] > 0
    return ["figure1", "figure2", *(["cost"] if costs.any(axis=None) else [])]


# --- the text of a page


def _section(folder: Path, grid: Grid, study: dict, judge: str, pictures: list[str]) -> str:
    parts = [f"# Accuracy on {_escaped(judge)}" if judge else "# Accuracy", _caption(folder, grid, study, judge)]
    for choice, words in _CHOICES.items():
        parts.append(f"## Linear probe, {words}")
        costs = _cost_lines(grid) if choice == "best" else []
        parts.append(_accuracy_table(grid, "linear", "accuracy", choice, costs))
        if choice == "best":
            parts += _below(grid)
    for probe, metric in _others(grid.rows):
        name = metric.removeprefix("accuracy").strip("_").replace("_", " ")
        title = f"{_PROBES.get(probe, probe)}{f', {name}' if name else ''}, last checkpoint"
        parts += [f"## {_escaped(title)}", _accuracy_table(grid, probe, metric, "last", [])]
    if cells := _cell_table(grid):
        parts += ["## Cost of each cell, mean over its seeds", cells]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    parts += _flags(grid.rows) + _agreement(grid.rows)
    return "\n\n".join(parts)


def _caption(folder: Path, grid: Grid, study: dict, judge: str) -> str:
    rows, runs = grid.rows, [_json(path) for path in sorted((folder / "cells").glob("*/run.json"))]
    judge = judge or _flat(study.get("judge"))

    def known(name: str) -> str:
        # Each technique may have its own.
        asked: Any = _distinct(filter(None, (_of_recipe(study, technique, name) for technique in grid.techniques)))
        asked = asked or study.get(name)
        if asked in (None, "", [], {}) and name in rows:
            asked = _distinct(rows[name].dropna())
        if asked in (None, "", [], {}):
            asked = _distinct(_flat(run[name]) for run in runs if run.get(name))
        return _flat(asked)

    data = known("data")
    facts = [
        f"Pretrained on {_data(data)}" if data else "",
        f"judged on {_data(judge)}" if judge else "",
        f"{known('image_size')} px" if known("image_size") else "",
        *(f"{known(key)} {words}" for key, words in _COUNTS.items() if known(key)),
        *(f"{words} {known(key)}" for key, words in _SETTINGS.items() if known(key)),
    ]
    return f"{_escaped('; '.join(filter(None, facts)))}.\n\n{_uncertainty(grid, study)}"


_COUNTS = {
    "pool_images": "images without labels",
    "train_images": "labelled training images",
    "test_images": "test images",
    "epochs": "epochs",
}
_SETTINGS = {
    "every": "a checkpoint every",
    "batch": "batch",
    "recipe": "recipe",
    "seeds": "seeds",
    "machine": "machine",
    "commit": "commit",
    "versions": "versions",
}


def _uncertainty(grid: Grid, study: dict) -> str:
    seeds = grid.rows[~grid.rows.technique.isin(BASELINES)].seed.nunique()
    if seeds > 1:
        return "± is the half-width of the 95 % t-interval of the mean over seeds."
    text = "One seed: nothing is known of the spread between seeds."
    images = _test_images(grid.rows, study)
    if images:
        low, high = wilson(images / 2, images)
        text += f" The {images} test images alone leave ±{_share((high - low) / 2)} (95 %) about an accuracy of .5."
    return text


def _test_images(rows: pd.DataFrame, study: dict) -> int | None:
    if isinstance(study.get("test_images"), int):
        return study["test_images"]
    counts = rows[rows.metric.str.startswith("confusion/")].groupby([*CELL, "epoch", "probe"]).value.sum()
    return round(counts.max()) if len(counts) else None


def _below(grid: Grid) -> list[str]:
    """What stands under the first table: which cells are not what they seem."""
    if not grid.gaps:
        return []
    lines = []
    for gap in grid.gaps:
        name = f"{gap.technique} × {gap.backbone}" if gap.backbone else gap.technique
        seed = "" if gap.seed is None else f", seed {gap.seed}"
        lines.append(f"- {_escaped(name + seed)}: {_escaped(gap.reason)}")
    return [f"{ABSENT} missing; † incomplete, of the seeds that went furthest:", "\n".join(lines)]


def _flags(rows: pd.DataFrame) -> list[str]:
    lines = told(rows)
    return (
        ["## Flags: cells whose figures say little", "\n".join(f"- {_escaped(line)}" for line in lines)]
        if lines
        else []
    )


def _agreement(rows: pd.DataFrame) -> list[str]:
    correlation, cells = rank_agreement(rows)
    if cells < 10 or correlation is None:
        return []
    return [
        "## Beside the paper",
        f"Spearman's rank correlation with the paper's Table 1 over {cells} cells (highest test accuracy of all "
        f"checkpoints): {correlation:.2f}. On data, sizes or lengths other than the paper's this compares the order of "
        "techniques and networks, not absolute values.",
    ]


# --- tables


def _accuracy_table(grid: Grid, probe: str, metric: str, choice: str, costs: list[list[str]]) -> str:
    means = _means(select(grid.rows, probe=probe, metric=metric), choice)
    marked = {(gap.technique, gap.backbone) for gap in grid.gaps}
    shown = _share if metric.startswith("accuracy") else _short
    highest = {
        backbone: max(
            (shown(means[key][0]) for key in means if key[1] == backbone and key[0] in grid.techniques), default=""
        )
        for backbone in grid.backbones
    }

    def cell(technique: str, backbone: str) -> str:
        if (technique, backbone) not in means:
            return ABSENT
        mean, half = means[technique, backbone]
        text = shown(mean) if half is None else f"{shown(mean)} ± {shown(half)}"
        # Which way is up is known of accuracies only.
        if technique in grid.techniques and shown(mean) == highest[backbone] and shown is _share:
            text = f"**{text}**"
        return text + ("†" if (technique, backbone) in marked else "")

    lines = [
        [_name(technique), _kind(technique, grid.study), *(cell(technique, backbone) for backbone in grid.backbones)]
        for technique in grid.techniques
    ]
    for baseline, name in _BASELINE_NAMES.items():
        if probe == "linear" or any(key[0] == baseline for key in means):
            columns = ["" if baseline == "pixels" else backbone for backbone in grid.backbones]
            lines.append([name, "", *(cell(baseline, backbone) for backbone in columns)])
    return _table(["technique", "contrastive", *map(_escaped, grid.backbones)], lines + costs)


def _cost_lines(grid: Grid) -> list[list[str]]:
    """Below the accuracies, as in the paper: what the column cost, over all techniques."""
    costs = _costs(grid.rows)
    costs = costs[~costs.technique.isin(BASELINES)]

    def line(name: str, column: str, shown: Callable[[float], str], joined: Callable[[pd.Series], float]) -> list[str]:
        texts = []
        for backbone in grid.backbones:
            values = costs[costs.backbone == backbone].set_index("technique")[column].dropna()
            text = shown(joined(values)) if len(values) else ABSENT
            # A sum of four techniques must not be read as that of five.
            partial = joined is _sum and 0 < len(values) < len(grid.techniques)
            texts.append(f"{text} ({len(values)} of {len(grid.techniques)})" if partial else text)
        return [name, "", *texts]

    return [
        line("parameters", "parameters", _count, _usual),
        line(f"multiply-adds at {grid.size}", "multiply_adds", _count, _usual),
        line("multiply-adds at 224 px", "multiply_adds_224", _count, _usual),
        line("pretraining, sum", "seconds", duration, _sum),
        line("probing, sum", "probe_seconds", duration, _sum),
        line("images/s, median", "images_per_s", _short, pd.Series.median),
        line("peak memory, MiB, highest", "peak_memory_mib", _short, pd.Series.max),
        line("kWh, sum", "kwh", _short, _sum),
        line("g CO2, sum, codecarbon", "grams_co2", _short, _sum),
        line("g CO2, sum, ML Impact formula", "grams_co2_ml_impact", _short, _sum),
    ]


def _cell_table(grid: Grid) -> str:
    costs = _costs(grid.rows)
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "parameters": ("parameters", _count),
        "multiply_adds": ("multiply-adds", _count),
        "multiply_adds_224": ("at 224 px", _count),
        "seconds": ("pretraining", duration),
        "probe_seconds": ("probing", duration),
        "images_per_s": ("images/s", _short),
        "peak_memory_mib": ("MiB", _short),
        "kwh": ("kWh", _short),
        "grams_co2": ("g CO2", _short),
        "grams_co2_ml_impact": ("g CO2, ML Impact", _short),
    }
    lines = []
    for technique in [*grid.techniques, "supervised"]:
        for backbone in grid.backbones:
            for _, cost in costs[(costs.technique == technique) & (costs.backbone == backbone)].iterrows():
                texts = [
                    ABSENT if math.isnan(cost[column]) else shown(cost[column])
                    for column, (_, shown) in columns.items()
                ]
                lines.append([_name(technique), _escaped(backbone), *texts])
    header = ["technique", "backbone", *(title for title, _ in columns.values())]
    return _table(header, lines) if lines else ""


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---", "---", *["---:"] * (len(header) - 2)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])


# --- what the tables hold


def _grid(folder: Path, rows: pd.DataFrame, study: dict) -> Grid:
    seen = rows[~rows.technique.isin(BASELINES)]
    techniques = [*seen.technique, *(t for t in _names(study.get("techniques")) if t not in BASELINES)]
    backbones = [*rows.backbone[rows.backbone != ""], *_names(study.get("backbones"))]
    ordered = paper.in_order(techniques, paper.TECHNIQUES), paper.in_order(backbones, paper.BACKBONES)
    size = _flat(study.get("image_size") or _distinct(rows.image_size.dropna()))
    size = f"{_escaped(size)} px" if size else "the training size"
    return Grid(_comparable(folder, rows, study), *ordered, _gaps(folder, rows, study, *ordered), size, study)


def _comparable(folder: Path, rows: pd.DataFrame, study: dict) -> pd.DataFrame:
    """Without crashed seeds: those behind the furthest of their cell, unless they ended by themselves."""
    kept = finished(rows)
    if not study.get("until_converged"):
        return kept
    ends = rows.groupby(CELL).epoch.max()
    ended = [cell for cell, reached in ends.items() if _converged(_run(folder, *cell) / "log.jsonl", reached)]
    keys = pd.MultiIndex.from_frame(rows[CELL])
    return rows[keys.isin(ended) | rows.index.isin(kept.index)]


def _run(folder: Path, technique: str, backbone: str, seed: int) -> Path:
    return folder / "cells" / cell_name(technique, backbone, seed)


def _gaps(folder: Path, rows: pd.DataFrame, study: dict, techniques: list[str], backbones: list[str]) -> list[Gap]:
    linear = rows[(rows.probe == "linear") & (rows.metric == "accuracy") & (rows.epoch > 0)]
    reached = linear.groupby(CELL).epoch.max().to_dict()
    asked = study.get("seeds")
    known = [seed for seed in asked if isinstance(seed, int)] if isinstance(asked, list) else []
    seeds = known or sorted(linear.seed[~linear.technique.isin(BASELINES)].unique())
    every = _whole(study.get("every")) or 1  # the last checkpoint need not fall on the last epoch
    expected = {cell_name(t, b, s): (t, b, int(s)) for t in techniques for b in backbones for s in seeds or [0]}
    gaps = []
    for name, cell in expected.items():
        run = folder / "cells" / name
        furthest = max((epoch for (t, b, _), epoch in reached.items() if (t, b) == cell[:2]), default=0)
        target = _of_recipe(study, cell[0], "epochs") or _whole(study.get("epochs")) or furthest
        short = not reached.get(cell) or reached[cell] <= target - every
        if short and not _converged(run / "log.jsonl", reached.get(cell)):
            gaps.append(Gap(*cell, _reason(run, reached.get(cell), target)))
    for error in sorted((folder / "cells").glob("*/error.txt")):
        if error.parent.name not in expected:
            gaps.append(Gap(error.parent.name, "", None, f"failed: {_first_line(error)}"))
    return gaps


def _converged(log: Path, reached: int | None) -> bool:
    """Whether the run ended by itself, and was judged to its end."""
    last = _last_row(log)
    return "stopped" in last and last.get("epoch") == reached


def _of_recipe(study: dict, technique: str, setting: str) -> int:
    recipes = study.get("recipes")
    recipe = recipes.get(technique) if isinstance(recipes, dict) else None
    return _whole(recipe.get(setting)) if isinstance(recipe, dict) else 0


def _reason(run: Path, reached: int | None, target: int) -> str:
    measured = f"; measured up to epoch {reached} of {target}" if reached else ""
    if error := _first_line(run / "error.txt"):
        return f"failed: {error}{measured}"
    if reached:
        return measured.removeprefix("; ")
    trained = _whole(_last_row(run / "log.jsonl").get("epoch"))
    return f"pretrained up to epoch {trained}, not judged" if trained else "not run"


def _means(picked: pd.DataFrame, choice: str) -> dict[tuple[str, str], tuple[float, float | None]]:
    known = picked.dropna(subset=choice)
    return {key: interval(values) for key, values in known.groupby(CELL[:2])[choice]}


def _costs(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each technique and backbone, means over its seeds; what grew with the epochs, at the last one."""
    highest = ["parameters", "multiply_adds", "multiply_adds_224", "peak_memory_mib"]
    highest += ["seconds", "kwh", "grams_co2", "grams_co2_ml_impact"]
    costs = rows.groupby(CELL)[highest].max().join(rows.groupby(CELL).images_per_s.median())
    # Every metric of a probe repeats the time of that probe on that checkpoint.
    probing = rows.groupby([*CELL, "epoch", "probe"]).probe_seconds.max().groupby(CELL).sum(min_count=1)
    return costs.join(probing).groupby(CELL[:2]).mean().reset_index()


def _others(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Further pairs of probe and metric worth a table: those that are neither per class nor for selection."""
    known = [("knn", "accuracy_euclidean"), ("knn", "accuracy_cosine"), ("finetune", "accuracy")]
    seen = {pair for pair in zip(rows.probe, rows.metric, strict=True) if not re.search("/|^held_out_", pair[1])}
    return [pair for pair in known if pair in seen] + sorted(seen - {*known, ("linear", "accuracy")})


def _usual(values: pd.Series) -> float:
    # Split-Brain holds two halves of a network; the column is about the whole one, which the other techniques share.
    return float(values.mode().iloc[0]) if values.value_counts().iloc[0] > 1 else float(values.iloc[0])


def _sum(values: pd.Series) -> float:
    return float(values.sum())


# --- words and numbers


def _name(technique: str) -> str:
    return paper.technique(technique) or _BASELINE_NAMES.get(technique) or _escaped(technique)


def _kind(technique: str, study: dict) -> str:
    told = study.get("contrastive")
    own = told.get(technique) if isinstance(told, dict) else None
    return paper.CONTRASTIVE.get(paper.technique(technique) or "") or (_escaped(str(own)) if own else ABSENT)


def _data(name: str) -> str:
    return f"{name} (synthetic)" if "scenes" in re.split(r"\W+", name) else name


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _count(value: float) -> str:
    return f"{value / 1e6:.3g} M" if value < 1e9 else f"{value / 1e9:.3g} G"


def _short(value: float) -> str:
    """Three digits that matter, without powers of ten."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _escaped(text: str) -> str:
    """A user's words inside a line of Markdown: no markup, no new line, nothing invisible."""
    seen = "".join(
        letter if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else f"<{ord(letter):x}>"
        for letter in text
    )
    inside = re.sub(r"([\\`*\[\]<>|~#&$!])", r"\\\1", seen)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", inside)  # an underscore within a word is no markup


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _distinct(values: Iterable) -> list:
    return list(dict.fromkeys(value for value in values if value != ""))


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list | tuple | dict) else []


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


# --- files that may be absent or torn


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _first_line(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(500).strip() or "no reason given"


def _last_row(log: Path) -> dict:
    """Of a run's log; {} where there is none, and a line that a killed run cut off is left out."""
    for line in reversed(log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        return row if isinstance(row, dict) else {}
    return {}
