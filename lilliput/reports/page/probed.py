"""Sections of numbers that probes measured on the sample: colour, layers, geometry, few labels."""

import math

import numpy as np
import pandas as pd

from lilliput.reports.page import html, pictures
from lilliput.reports.page.section import Inspection, Study, inspected_source, last_trained, matrix, source, still
from lilliput.reports.words import ABSENT, signed, title
from lilliput.studies.results import CELL
from lilliput.studies.statistics import spearman, spearman_interval

PAIRS_SHOWN = 25
PULL = "colour_pull_specific"
STAGES = {
    "accuracy_last_stage": "last stage",
    "accuracy_best_stage": "best stage, chosen on held-out images",
    "best_stage": "which",
}
GEOMETRY = {  # -1: less is better
    "effective_rank": 1,
    "alignment": -1,
    "uniformity": -1,
    "dead_units": -1,
    "spread": 1,
    "alpha_req": -1,
    "nesum": 1,
    "sigreg": -1,
}
GEOMETRY_COLUMNS = [
    "label-free score",
    "rank correlation with accuracy",
    "encoders",
    "within a backbone, mean",
    "picked a run's best checkpoint",
]


def colour(inspection: Inspection) -> str:
    """What changes of colour cost, and whether mistakes follow colour."""
    study, rows = inspection.study, inspection.of("colour")
    alt = "Accuracy lost under three changes of colour, by technique and backbone."
    staying = {f"neighbours_kept_{change}": name for change, name in pictures.CHANGES.items()}
    parts = [
        "<p>What the linear probe loses when the test images' colours change, and nothing else; bars are 95 % "
        "intervals over images.</p>",
        still(study, "colour", pictures.colour(rows, study.techniques, study.backbones), alt),
        f"<h4>Share of the ten nearest neighbours that stay</h4>{matrix(study, rows, staying)}",
        "<h3>Do mistakes follow colour?</h3><p>Of the images of a class that are told wrong, do those taken for "
        "another class lean more towards that class's mean colour than those taken for any third? By how many standard "
        "deviations (Cohen's d, mean over pairs of classes by their certainty) and half of its 95 % interval. Zero: "
        "colour has no part in which mistake is made.</p>",
        _colour_pulls(study, rows),
        "<h4>By pair, mean over the cells that have five mistakes of either kind; the interval: one cell's</h4>",
        _colour_pulls_by_pair(rows),
    ]
    return "".join(parts) + inspected_source(inspection, "colour")


def _colour_pulls(study: Study, rows: pd.DataFrame) -> str:
    """By technique and backbone."""
    rows = rows[rows.metric.isin([PULL, f"{PULL}_half"])]
    lines = []
    for technique in study.techniques:
        texts = []
        for backbone in study.backbones:
            cell = rows[(rows.technique == technique) & (rows.backbone == backbone)].groupby("metric").value.mean()
            texts.append(f"{cell[PULL]:+.2f} ± {cell[f'{PULL}_half']:.2f}" if len(cell) == 2 else ABSENT)
        lines.append([title(technique), *texts])
    return html.table(["technique", *study.backbones], lines)


def _colour_pulls_by_pair(rows: pd.DataFrame) -> str:
    pairs = rows[rows.metric.str.startswith(f"{PULL}/")].groupby("metric").value.agg(["mean", "count"])
    halves = rows[rows.metric.str.startswith(f"{PULL}_half/")].groupby("metric").value
    typical = halves.apply(lambda half: float(np.sqrt((half**2).mean())))
    lines = []
    for metric, pull in pairs.sort_values("mean", ascending=False)[:PAIRS_SHOWN].iterrows():
        _, true, guess = str(metric).split("/", 2)
        half = typical.get(f"{PULL}_half/{true}/{guess}", math.nan)
        lines.append([true, guess, f"{pull['mean']:+.2f} ± {half:.2f}", f"{pull['count']:.0f}"])
    return html.table(["class", "taken for", "pull", "cells"], lines)


def layers(inspection: Inspection) -> str:
    """Accuracy of each stage of a network."""
    study, rows = inspection.study, inspection.of("layers")
    alt = "Linear accuracy by stage, a panel for each technique, a line for each backbone."
    figure = pictures.layers(rows, study.techniques, study.backbones)
    return still(study, "layers", figure, alt) + matrix(study, rows, STAGES) + inspected_source(inspection, "layers")


def geometry(inspection: Inspection) -> str:
    """Whether a score that needs no labels would have picked the right encoder."""
    study, rows = inspection.study, inspection.of("geometry")
    accuracy = study.rows[(study.rows.probe == "linear") & (study.rows.metric == "accuracy")]
    both = rows.merge(accuracy[[*CELL, "epoch", "value"]], on=[*CELL, "epoch"], suffixes=("", "_accuracy"))
    both = both[both.epoch > 0]
    lines = [_agreement(both[both.metric == metric], metric, sign) for metric, sign in GEOMETRY.items()]
    last = last_trained(rows)
    return (
        "<p>Would a score that needs no labels have picked the right encoder? Spearman's correlation over all saved "
        f"encoders with its 95 % interval (Fisher's z, a run counted once); zero is chance.</p>"
        f"{html.table(GEOMETRY_COLUMNS, lines)}<h4>At the last checkpoint</h4>"
        + matrix(study, last, {metric: metric.replace("_", " ") for metric in GEOMETRY})
        + inspected_source(inspection, "geometry")
    )


def _agreement(pairs: pd.DataFrame, metric: str, sign: int) -> list[str]:
    """Of a score's `value` and `value_accuracy` of the same encoders, as a line of the table."""
    within = [_correlation(cells, sign) for _, cells in pairs.groupby("backbone")]
    within = [correlation for correlation in within if not math.isnan(correlation)]
    runs = [run for _, run in pairs.groupby(CELL) if len(run) > 1]
    hits = sum(run.loc[(run.value * sign).idxmax()].value_accuracy == run.value_accuracy.max() for run in runs)
    return [
        metric.replace("_", " ") + (", less is better" if sign < 0 else ""),
        _with_interval(_correlation(pairs, sign), pairs),
        f"{len(pairs)}",
        signed(float(np.mean(within))) if within else ABSENT,
        f"{hits} of {len(runs)}" if runs else ABSENT,
    ]


def _with_interval(correlation: float, pairs: pd.DataFrame) -> str:
    """Checkpoints of one run are not independent: the interval is that of as many pairs as there are runs."""
    if math.isnan(correlation):
        return ABSENT
    low, high = spearman_interval(correlation, pairs.groupby(CELL).ngroups)
    return f"{signed(correlation)} ({signed(low)} to {signed(high)})"


def _correlation(pairs: pd.DataFrame, sign: int) -> float:
    """NaN for two encoders: they agree or they do not."""
    return spearman(pairs.value * sign, pairs.value_accuracy) if len(pairs) > 2 else math.nan


def few_labels(inspection: Inspection) -> str:
    """Accuracy with 1, 10 and 100 per cent of the labels."""
    study, rows = inspection.study, inspection.of("few_labels")
    counts = {percent: rows[rows.metric == f"images_{percent}_percent"].value.median() for percent in (1, 10, 100)}
    used = ", ".join(f"{percent} %: {images:.0f} images" for percent, images in counts.items() if images == images)
    alt = "Linear accuracy with 1, 10 and 100 per cent of the labels, a panel for each backbone."
    return (
        f"<p>The linear probe with fewer labels, means over draws ({used}).</p>"
        + still(study, "few-labels", pictures.few_labels(rows, study.techniques, study.backbones), alt)
        + matrix(study, rows, _accuracies(1, 10, 100))
        + inspected_source(inspection, "few_labels")
        + _few_finetuned(study)
    )


def _few_finetuned(study: Study) -> str:
    """Where it was asked for, for it takes as long as all the rest."""
    rows = study.rows[study.rows.probe == "few_finetune"]
    if rows.empty:
        return (
            "<p>The whole network fine-tuned with few labels: not asked for; <code>--probes linear knn few_finetune"
            "</code> adds it to the study.</p>"
        )
    with_one, with_ten = (rows[rows.metric == f"images_{percent}_percent"].value.median() for percent in (1, 10))
    return (
        f"<h3>Fine-tuned</h3><p>The whole network learns from {with_one:.0f} and from {with_ten:.0f} labelled "
        "images; means over draws, on all test images. Random init learns from scratch.</p>"
        + matrix(study, rows, _accuracies(1, 10), "random_init")
        + source(study, "few_finetune")
    )


def _accuracies(*percents: int) -> dict[str, str]:
    return {f"accuracy_{percent}_percent": f"{percent} %" for percent in percents}
