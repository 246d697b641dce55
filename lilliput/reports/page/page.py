"""report.html: a study in one page that opens anywhere; it loads nothing, and every figure says where it comes from."""

import base64
import html
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lilliput.data.store import Images
from lilliput.errors import BadData, LilliputError, wanted
from lilliput.probes.linear import Classifier
from lilliput.probes.saliency import METHODS, saliency_maps
from lilliput.reports import figures, paper, words
from lilliput.reports.page import pictures
from lilliput.reports.page.looks import TEST, TRAIN, Look, Sample, exam_of, inspect, looks_of, open_sample
from lilliput.reports.verdict import standings, verdict
from lilliput.studies import results, statistics
from lilliput.studies.record import read_study
from lilliput.studies.results import BASELINES, CELL
from lilliput.studies.statistics import select
from lilliput.system.files import write_whole
from lilliput.system.progress import duration, say
from lilliput.system.visible import visible
from lilliput.training.cell import cell_name
from lilliput.training.encoders import saved_encoders
from lilliput.training.record import read_run

MAP_POINTS = 400
ASSETS = Path(__file__).parent / "assets"


class Section(NamedTuple):
    """A part of the page: its anchor and title, and what it holds, as HTML."""

    anchor: str
    title: str
    body: str


class Study(NamedTuple):
    """What the page is about: rows of its first judge, their names in order, and its settings."""

    folder: Path
    rows: pd.DataFrame
    record: dict
    techniques: list[str]
    backbones: list[str]

    @property
    def test_images(self) -> int | None:
        return self.record.get("test_images")

    @property
    def seeds(self) -> int:
        return self.rows[~self.rows.technique.isin(BASELINES)].seed.nunique()


def write_page(folder: Path, judge: tuple[Images, Images] | None = None) -> Path:
    """Write <study>/report.html, and its pictures below <study>/inspect; returns the page.

    `judge`: the labelled stores, train and test, if they do not lie prepared on this machine. BadSetting without the
    libraries of the extra `report`; without the images the page has no pictures and says so.
    """
    for library in ("plotly", "captum", "sklearn"):
        wanted(library, extra="report")
    study = _opened(folder)
    sections = [_verdict(study), _table(study), *_curves(study), _pareto(study)]
    try:
        sample = open_sample(folder, judge)
    except BadData as error:
        if judge:
            raise
        sections.append(Section("pictures", "Pictures", f"<p>There are none: {_text(str(error))}.</p>"))
    else:
        rows = inspect(folder, sample)
        sections += _inspected(study, sample, rows)
    sections.append(_protocol(study))
    path = folder / "report.html"
    write_whole(path, _page(study, sections).encode())
    return path


def _opened(folder: Path) -> Study:
    rows, record = results.read(folder), read_study(folder)
    rows = statistics.finished(rows[rows.judge == record["judge"]])
    if rows.empty:
        raise BadData(f"{folder} has no judged rows yet; run its study first")
    if not (rows.probe == "linear").any():
        raise BadData(f"{folder} has no rows of the linear probe, which report.html compares by: add it to --probes")
    seen = rows[~rows.technique.isin(BASELINES)]
    techniques = paper.in_order(seen.technique, paper.TECHNIQUES)
    backbones = paper.in_order(seen.backbone, paper.BACKBONES)
    return Study(folder, rows, record, techniques, backbones)


# -- what was measured ------------------------------------------------------------------------------------------------


def _verdict(study: Study) -> Section:
    first, *others = verdict(study.rows, test_images=study.test_images, seeds=study.seeds)
    flags = [f"Flagged: {line}" for line in words.told(study.rows)]
    listed = "".join(f"<li>{_text(line)}</li>" for line in [*others, *flags])
    question = (
        f"Which way of learning without labels suits which small network, for {study.record['judge']}? "
        f"{len(study.techniques)} techniques on {len(study.backbones)} backbones learned from "
        f"{study.record['pool_images']:,} images without labels at {study.record['image_size']} px for "
        f"{study.record['epochs']} epochs; a linear probe judged what they had learned on {study.test_images:,} test "
        "images."
    )
    return Section("verdict", "Verdict", f"<p>{_text(question)}</p><p class=lead>{_text(first)}</p><ul>{listed}</ul>")


def _table(study: Study) -> Section:
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("chosen", "chosen checkpoint", _share),
        ("last", "last", _share),
        ("best", "best on test", _share),
        ("knn", "kNN", _share),
        ("parameters", "parameters", _count),
        ("multiply_adds", "multiply-adds", _count),
        ("seconds", "pretraining", duration),
        ("kwh", "Wh", lambda value: _short(value * 1000)),
        ("grams_co2", "g CO2", _short),
    ]
    frame = _cells(study)
    trained = frame[~frame.technique.isin(BASELINES)]
    best = {name: trained[name].max() for name in ("chosen", "last", "best", "knn")}
    header = "".join(
        f"<th scope=col aria-sort=none><button type=button>{_text(title)}</button></th>"
        for title in ["technique", "backbone", *(title for _, title, _ in columns)]
    )
    lines = []
    for _, row in frame.iterrows():
        cells = [f"<th scope=row>{_text(_title(row.technique))}</th><td>{_text(row.backbone)}</td>"]
        for name, _, shown in columns:
            value = row[name]
            text = "–" if pd.isna(value) else shown(value)
            if name == "chosen" and not pd.isna(value):
                text += f" <small>± {_share(row.half)}</small>"
            mark = (
                " class=best"
                if not pd.isna(value) and value == best.get(name) and row.technique not in BASELINES
                else ""
            )
            key = "" if pd.isna(value) else f"{value:.6g}"
            cells.append(f'<td data-v="{key}"{mark}>{text}</td>')
        kind = " class=baseline" if row.technique in BASELINES else ""
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    how = (
        "Test accuracy of a linear probe: at the checkpoint chosen on held-out training images, with its 95 % interval "
        f"({'over seeds' if study.seeds > 1 else 'of the test images; one seed'}); at the last checkpoint; and at the "
        "best on test, which is the paper's figure and selects on what it reports. kNN: 20 neighbours by cosine, last "
        "checkpoint. Grey rows are baselines. A click on a heading sorts."
    )
    table = _sortable(header, "".join(lines))
    return Section("table", "Table", f"<p>{how}</p>{table}{_source(study, 'results.csv', 'linear and knn')}")


def _cells(study: Study) -> pd.DataFrame:
    """A row for each technique and backbone: accuracies and costs, means over seeds."""
    picked = select(study.rows)
    knn = select(study.rows, probe="knn", metric="accuracy_cosine")[[*CELL, "last"]].rename(columns={"last": "knn"})
    costs = study.rows.groupby(CELL)[["parameters", "multiply_adds", "seconds", "kwh", "grams_co2"]].max().reset_index()
    frame = picked.merge(knn, on=CELL, how="left").merge(costs, on=CELL, how="left")
    frame = frame.astype({"knn": float})  # where the study has no such probe, the empty column has no type
    frame = frame.groupby(CELL[:2]).mean(numeric_only=True).reset_index()
    halves = {(one.technique, one.backbone): one.half for one in standings(study.rows, study.test_images)}
    frame["half"] = [halves.get((row.technique, row.backbone), math.nan) for row in frame.itertuples()]
    order = [*study.techniques, *BASELINES]
    frame["place"] = [order.index(name) for name in frame.technique]
    return frame.sort_values(["place", "backbone"])


def _curves(study: Study) -> list[Section]:
    drawn = figures.curves(study.rows)
    found = []
    for number, (panel, line) in enumerate((("technique", "backbone"), ("backbone", "technique")), start=1):
        static = {1: figures.figure1, 2: figures.figure2}[number](study.rows)
        title = f"Accuracy against pretraining, by {panel}"
        alt = f"Maximum linear accuracy so far against epochs, a panel for each {panel}, a line for each {line}."
        body = _twin(f"figure{number}", _interactive_curves(drawn, panel, line), static, alt)
        found.append(Section(f"figure{number}", title, body + _source(study, "curves.csv", "linear")))
    return found


def _interactive_curves(drawn: pd.DataFrame, panel: str, line: str) -> dict[str, Any]:
    from plotly.subplots import make_subplots

    panels = paper.in_order(drawn[panel], getattr(paper, f"{panel.upper()}S"))
    lines = paper.in_order(drawn[line], getattr(paper, f"{line.upper()}S"))
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    figure = make_subplots(
        down, across, shared_yaxes=True, subplot_titles=[_text(_title(name)) for name in panels], vertical_spacing=0.14
    )  # fmt: skip
    for place, name in enumerate(panels):
        for number, other in enumerate(lines):
            own = drawn[(drawn[panel] == name) & (drawn[line] == other)]
            if own.empty:
                continue
            figure.add_scatter(
                x=own.epoch.tolist(), y=own.accuracy.tolist(), name=_text(_title(other)), legendgroup=other,
                showlegend=place == 0, mode="lines+markers", line_color=figures.COLOURS[number % 7],
                row=place // across + 1, col=place % across + 1,
                hovertemplate=f"{_text(_title(other))}<br>epoch %{{x}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(height=270 * down + 60)
    figure.update_xaxes(title_text="epochs", row=down)
    return figure.to_plotly_json()


def _pareto(study: Study) -> Section:
    import plotly.graph_objects as go

    frame = _cells(study)
    frame = frame[~frame.technique.isin(BASELINES)]
    parts = []
    for column, title, unit in (
        ("multiply_adds", "multiply-adds an image, millions", 1e6),
        ("seconds", "seconds of pretraining", 1.0),
        ("kwh", "energy of pretraining, Wh", 1e-3),
    ):
        known = frame[(frame[column] > 0) & frame["last"].notna()]
        if known.empty:
            continue
        figure = go.Figure()
        edge = figures.front(list(zip(known[column] / unit, known["last"], strict=True)))
        xs, ys = [point[0] for point in edge], [point[1] for point in edge]
        figure.add_scatter(
            x=xs, y=ys, mode="lines", line={"shape": "hv", "color": "#888"}, name="Pareto front", hoverinfo="skip"
        )
        for number, technique in enumerate(study.techniques):
            own = known[known.technique == technique]
            figure.add_scatter(
                x=(own[column] / unit).tolist(), y=own["last"].tolist(), mode="markers", name=_text(_title(technique)),
                text=[_text(name) for name in own.backbone], marker={"size": 10, "color": figures.COLOURS[number % 7]},
                hovertemplate=f"{_text(_title(technique))}, %{{text}}<br>%{{x:.3g}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
        figure.update_layout(height=360, yaxis_title="linear accuracy, last checkpoint")
        figure.update_xaxes(type="log", title_text=title)
        parts.append(
            f"<h3>{title[0].upper() + title[1:]}</h3>"
            + _plot(
                f"pareto-{column}",
                figure.to_plotly_json(),
                f"Accuracy against {title}, with the front of the cells that no other beats on both.",
            )
        )
    static = figures.cost_figure(study.rows) if parts else None
    twin = (
        f"<div class=print>{_picture(study, 'cost', static, 'Accuracy against cost, with the Pareto front.')}</div>"
        if static
        else ""
    )
    return Section("cost", "Accuracy against cost", "".join(parts) + twin + _source(study, "results.csv", "linear"))


# -- what they look at ------------------------------------------------------------------------------------------------


def _inspected(study: Study, sample: Sample, rows: pd.DataFrame) -> list[Section]:
    """All sections that need the images; one that fails says why and costs no other."""
    leaders = [one for one in standings(study.rows, study.test_images) if one.technique not in BASELINES]
    best = leaders[0]
    by_technique = [(name, best.backbone) for name in study.techniques]
    by_backbone = [(best.technique, name) for name in study.backbones]
    made: list[Section] = []
    for make in (_saliency, _neighbours, _mistakes, _colour, _layers, _geometry, _map, _few_labels):
        title = (make.__doc__ or "").partition(".")[0]
        anchor = make.__name__.strip("_")
        try:
            body = make(study, sample, rows, by_technique, by_backbone)
        except (LilliputError, ValueError, RuntimeError, KeyError, IndexError) as error:
            say(f"the report's section {title!r} is empty: {error}")
            body = f"<p>This section could not be made: {_text(str(error))}</p>"
        made.append(Section(anchor, title, body))
    return made


def _saliency(study, sample, rows, by_technique, by_backbone) -> str:
    """What the score hangs on."""
    own = rows[rows.probe == "saliency"]
    parts = [
        "<p>For each class the surest image told right (green) and the surest told wrong (red), and what the score "
        "of its own "
        "class hangs on: the gradient by the pixels as in the paper's figure 3, SmoothGrad, Integrated Gradients from "
        "grey, and Grad-CAM.</p>"
    ]
    for look in looks_of(study.folder, sample, by_technique):
        cases = _cases(study, look, sample)
        name = f"saliency-{look.technique}"
        alt = f"Saliency of {_title(look.technique)} on {look.backbone}: images by class and four maps over each."
        heading = f"<h3>{_text(_title(look.technique))} on {_text(look.backbone)}</h3>"
        parts.append(heading + _picture(study, name, pictures.saliency(cases, look, sample), alt))
    if own.empty:
        parts.append("<p>The images have no masks, so whether the saliency is on the object cannot be scored.</p>")
        return "".join(parts)
    area = own[own.metric == "object_area"].value.mean()
    count = own[own.metric == "object_images"].value.max()
    parts.append(
        f"<h3>Is it on the object?</h3><p>{count:.0f} test images with a mask; the object covers {area:.0%} of an "
        "image on "
        "average, which is what chance would give. Above zero: on the object; below: on its surroundings. Bars are "
        "95 % "
        "intervals over images.</p>"
    )
    parts.append(
        _picture(
            study,
            "on-object",
            pictures.on_object(own, study.techniques, study.backbones),
            "Share of saliency on the object above chance, by technique, backbone and method.",
        )
    )
    parts.append(_by_class(study, own, by_technique))
    return "".join(parts) + _inspect_source(study, "saliency")


def _by_class(study, own, by_technique) -> str:
    """The paper's claim, birds by their surroundings and horses by the horse, as figures with intervals."""
    lines = []
    for technique, backbone in by_technique:
        cell = own[(own.technique == technique) & (own.backbone == backbone)].groupby("metric").value.mean()
        for name in study.record.get("classes", []):
            gain, half = (cell.get(f"on_object_gain_gradient{part}/{name}") for part in ("", "_half"))
            if gain is None or half is None:
                continue
            said = "the object" if gain > half else "the surroundings" if gain < -half else "not told"
            lines.append([_title(technique), name, f"{gain:+.3f} ± {half:.3f}", said])
    return "<h4>By class, |gradient|</h4>" + _plain_table(
        ["technique", "class", "on the object, above chance", "judged by"], lines
    )


def _cases(study: Study, look: Look, sample: Sample) -> list[tuple[int, bool, dict[str, np.ndarray]]]:
    """For up to ten classes: the surest image told right and the one told wrong whose class had the least chance."""
    import torch

    truth, guess = sample.test.labels, look.scores.argmax(1)
    rows = []
    for number in range(min(10, len(sample.test.classes))):
        own = np.flatnonzero(truth == number)
        chance = look.scores[own, number]
        right, wrong = own[guess[own] == number], own[guess[own] != number]
        rows += [int(right[chance[guess[own] == number].argmax()])] if len(right) else []
        rows += [int(wrong[chance[guess[own] != number].argmin()])] if len(wrong) else []
    run = study.folder / "cells" / cell_name(look.technique, look.backbone, look.seed)
    exam = exam_of(saved_encoders(run)[look.epoch], read_run(run), sample)
    images = sample.test.load(np.array(rows), exam.plan.device)
    labels = torch.as_tensor(truth[rows], device=exam.plan.device)
    classify = Classifier(*(torch.as_tensor(part, device=exam.plan.device) for part in look.classifier))
    maps = {m: saliency_maps(exam.encoder, classify, images, labels, m).cpu().numpy() for m in METHODS}
    return [(row, bool(guess[row] == truth[row]), {m: maps[m][i] for m in METHODS}) for i, row in enumerate(rows)]


def _neighbours(study, sample, rows, by_technique, by_backbone) -> str:
    """Nearest neighbours."""
    parts = [
        "<p>For one test image of every class, the nearest labelled images by Euclidean distance: green frames are "
        "of its class.</p>"
    ]
    best = by_backbone[0][0]
    series = list(looks_of(study.folder, sample, [(best, by_technique[0][1])], epochs=True))
    picked = sorted({0, len(series) // 2, len(series) - 1})
    groups = {
        "techniques": ([*looks_of(study.folder, sample, by_technique)], lambda look: _title(look.technique)),
        "backbones": ([*looks_of(study.folder, sample, by_backbone)], lambda look: look.backbone),
        "checkpoints": ([series[n] for n in picked], lambda look: f"epoch {look.epoch}"),
    }
    for name, (looks, title) in groups.items():
        where = {
            "techniques": by_technique[0][1],
            "backbones": _title(best),
            "checkpoints": f"{_title(best)}, {by_technique[0][1]}",
        }[name]
        alt = f"Nearest neighbours of one image of each class, side by side for the {name} ({where})."
        figure = pictures.neighbours(looks, [title(look) for look in looks], sample)
        parts.append(
            f"<h3>By {name[:-1]} <small>({_text(where)})</small></h3>"
            + _picture(study, f"neighbours-{name}", figure, alt)
        )
    own = rows[(rows.probe == "retrieval") & ~rows.metric.str.contains("/")]
    shown = {
        "precision_at_1": "precision at 1",
        "precision_at_5": "at 5",
        "precision_at_10": "at 10",
        "mean_average_precision": "mean average precision",
    }
    parts.append("<h3>Retrieval</h3>" + _matrix(own, study, shown))
    by_class = rows[(rows.probe == "retrieval") & rows.metric.str.startswith("precision_at_10/")]
    wide = (
        by_class.assign(name=by_class.metric.str.partition("/")[2])
        .groupby(["technique", "name"])
        .value.mean()
        .unstack(0)
    )
    wide = wide.reindex(columns=[one for one in study.techniques if one in wide])
    lines = [[name, *(_share(value) for value in line)] for name, line in wide.iterrows()]
    parts.append(
        "<h4>Precision at 10 by class, mean over backbones</h4>"
        + _plain_table(["class", *map(_title, wide.columns)], lines)
    )
    return "".join(parts) + _inspect_source(study, "retrieval")


def _mistakes(study, sample, rows, by_technique, by_backbone) -> str:
    """Mistakes."""
    best, backbone = by_backbone[0][0], by_technique[0][1]
    classes = study.record["classes"]
    whole = study.rows[
        (study.rows.probe == "linear") & (study.rows.backbone == backbone) & (study.rows.technique == best)
    ]
    whole = whole[(whole.epoch == whole.epoch.max()) & (whole.seed == whole.seed.min())]
    counts = pictures.confusion_counts(whole, classes)
    title = f"{_title(best)} on {backbone}"
    parts = [
        f"<h3>Confusions of {_text(title)}, all test images</h3>",
        _picture(
            study,
            "confusion",
            pictures.confusion(whole, classes),
            f"Confusion matrix of {title}: shares of each class taken for each other.",
        ),
    ]
    pairs = sorted(
        (
            (counts[i, j] / max(1, counts[i].sum()), i, j)
            for i in range(len(classes))
            for j in range(len(classes))
            if i != j
        ),
        reverse=True,
    )
    lines = [[classes[i], classes[j], f"{share:.1%}"] for share, i, j in pairs[:10]]
    parts.append("<h4>The most confused</h4>" + _plain_table(["class", "taken for", "share of the class"], lines))
    looks = list(looks_of(study.folder, sample, by_technique))
    look = next(one for one in looks if one.technique == best)
    parts.append(
        "<h3>Its surest mistakes</h3>"
        + _picture(
            study,
            "mistakes",
            pictures.mistakes(look, sample),
            f"The surest mistakes of {title}, with class, guess and chance.",
        )
    )
    truth = sample.test.labels
    wrong = np.stack([one.scores.argmax(1) != truth for one in looks])
    shared = np.flatnonzero(wrong.all(0))
    expected = float(np.prod(wrong.mean(1))) * len(truth)
    order = sorted(map(int, shared), key=lambda row: -float(np.mean([one.scores[row].max() for one in looks])))
    parts.append(
        f"<h3>Mistakes that all {len(looks)} techniques share</h3><p>{len(shared)} of {len(truth)} images; were they "
        "made "
        f"independently, {expected:.0f} would be.</p>"
    )
    if len(shared):
        parts.append(
            _picture(
                study,
                "mistakes-shared",
                pictures.mistakes(look, sample, rows=order),
                "Images that all techniques tell wrong, with the guess of the best.",
            )
        )
    return "".join(parts) + _source(study, "results.csv", "linear")


def _colour(study, sample, rows, by_technique, by_backbone) -> str:
    """Is it colour that decides?"""
    own = rows[rows.probe == "colour"]
    parts = [
        "<p>What the linear probe loses when the test images' colours change, and nothing else; bars are 95 % "
        "intervals over images.</p>"
    ]
    parts.append(
        _picture(
            study,
            "colour",
            pictures.colour(own, study.techniques, study.backbones),
            "Accuracy lost under three changes of colour, by technique and backbone.",
        )
    )
    kept = {f"neighbours_kept_{key}": name for key, name in pictures.CHANGES.items()}
    parts.append("<h4>Share of the ten nearest neighbours that stay</h4>" + _matrix(own, study, kept))
    parts.append(
        "<h3>Do mistakes follow colour?</h3><p>Cohen's d: by how many standard deviations images that are taken for "
        "another "
        "class lean more towards that class's mean colour than those of the same class that are told right. Zero: "
        "colour has "
        "no part in it. Half of the 95 % interval beside it.</p>"
    )
    whole = own[own.metric.isin(["colour_pull", "colour_pull_half"])]
    lines = []
    for technique in study.techniques:
        cells = []
        for backbone in study.backbones:
            cell = whole[(whole.technique == technique) & (whole.backbone == backbone)].groupby("metric").value.mean()
            cells.append(f"{cell['colour_pull']:+.2f} ± {cell['colour_pull_half']:.2f}" if len(cell) == 2 else "–")
        lines.append([_title(technique), *cells])
    parts.append(_plain_table(["technique", *study.backbones], lines))
    pairs = own[own.metric.str.match(r"colour_pull/.")].groupby("metric").value.agg(["mean", "count"])
    halves = (
        own[own.metric.str.match(r"colour_pull_half/.")]
        .groupby("metric")
        .value.apply(lambda v: float(np.sqrt((v**2).mean())))
    )
    lines = []
    for metric, line in pairs.sort_values("mean", ascending=False).iterrows():
        _, true, guess = str(metric).split("/", 2)
        half = halves.get(f"colour_pull_half/{true}/{guess}", math.nan)
        lines.append([true, guess, f"{line['mean']:+.2f} ± {half:.2f}", f"{line['count']:.0f}"])
    parts.append(
        "<h4>By pair, mean over the cells that have five such mistakes; the interval is that of one cell</h4>"
        + _plain_table(["class", "taken for", "pull", "cells"], lines[:25])
    )
    return "".join(parts) + _inspect_source(study, "colour")


def _layers(study, sample, rows, by_technique, by_backbone) -> str:
    """Layers."""
    own = rows[rows.probe == "layers"]
    parts = [
        _picture(
            study,
            "layers",
            pictures.layers(own, study.techniques, study.backbones),
            "Linear accuracy by stage, a panel for each technique, a line for each backbone.",
        )
    ]
    shown = {
        "accuracy_last_stage": "last stage",
        "accuracy_best_stage": "best stage, chosen on held-out images",
        "best_stage": "which",
    }
    parts.append(_matrix(own, study, shown))
    return "".join(parts) + _inspect_source(study, "layers")


def _geometry(study, sample, rows, by_technique, by_backbone) -> str:
    """Geometry without labels."""
    own = rows[rows.probe == "geometry"]
    accuracy = study.rows[(study.rows.probe == "linear") & (study.rows.metric == "accuracy")]
    joined = own.merge(accuracy[[*CELL, "epoch", "value"]], on=[*CELL, "epoch"], suffixes=("", "_accuracy"))
    joined = joined[joined.epoch > 0]
    lines = []
    names = {"effective_rank": 1, "alignment": -1, "uniformity": -1, "dead_units": -1, "spread": 1}
    for metric, sign in names.items():
        pairs = joined[joined.metric == metric]
        within = [_spearman(cell.value * sign, cell.value_accuracy) for _, cell in pairs.groupby("backbone")]
        within = [one for one in within if not math.isnan(one)]
        runs = [cell for _, cell in pairs.groupby(CELL) if len(cell) > 1]
        hits = [cell.loc[(cell.value * sign).idxmax()].value_accuracy == cell.value_accuracy.max() for cell in runs]
        lines.append(
            [
                metric.replace("_", " ") + (", less is better" if sign < 0 else ""),
                _signed(_spearman(pairs.value * sign, pairs.value_accuracy)),
                f"{len(pairs)}",
                _signed(float(np.mean(within))) if within else "–",
                f"{sum(hits)} of {len(hits)}" if hits else "–",
            ]
        )
    header = [
        "label-free score",
        "rank correlation with accuracy",
        "encoders",
        "within a backbone, mean",
        "picked a run's best checkpoint",
    ]
    note = (
        "<p>Would a score that needs no labels have picked the right encoder? Spearman's correlation over all saved "
        "encoders; zero is chance.</p>"
    )
    last = own[own.epoch == own.groupby(CELL).epoch.transform("max")]
    shown = {name: name.replace("_", " ") for name in names}
    return (
        note
        + _plain_table(header, lines)
        + "<h4>At the last checkpoint</h4>"
        + _matrix(last, study, shown)
        + _inspect_source(study, "geometry")
    )


def _map(study, sample, rows, by_technique, by_backbone) -> str:
    """Maps of the test images."""
    from sklearn.manifold import TSNE

    cells = list(dict.fromkeys([*by_technique, *by_backbone]))
    looks = list(looks_of(study.folder, sample, cells))
    keep = np.arange(len(sample.test))[:: max(1, len(sample.test) // MAP_POINTS)]
    places = []
    for look in looks:
        features = look.features[keep] - look.features[keep].mean(0)
        features = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)
        places.append(TSNE(perplexity=min(30, len(keep) / 4), init="pca", random_state=0).fit_transform(features))
    small = sample._replace(test=sample.test.take(keep))
    names = [f"{_title(look.technique)}, {look.backbone}" for look in looks]
    figure = pictures.maps(looks, names, places, small)
    data = {
        "labels": np.asarray(small.test.labels).tolist(),
        "classes": small.test.classes,
        "colours": pictures.class_colours(len(small.test.classes or [])),
        "thumbnails": [_thumbnail(small.test, row) for row in range(len(keep))],
        "maps": [{"name": name, "xy": np.round(place, 2).tolist()} for name, place in zip(names, places, strict=True)],
    }
    options = "".join(f"<option value={n}>{_text(name)}</option>" for n, name in enumerate(names))
    body = (
        "<p>t-SNE of the features by cosine: near means alike to the network; the axes mean nothing. Point at a spot "
        "for its "
        f"image.</p><p class=screen><label>Encoder <select id=map-choice>{options}</select></label></p>"
        '<div class="plot screen" id=plot-map role=img aria-label="Map of the test images, coloured by class"></div>'
        f"<script type=application/json id=map-data>{_json(data)}</script>"
    )
    alt = "Maps of the test images by t-SNE, coloured by class, a panel for each encoder."
    return body + f"<details><summary>All maps, still</summary>{_picture(study, 'maps', figure, alt)}</details>"


def _few_labels(study, sample, rows, by_technique, by_backbone) -> str:
    """Few labels."""
    own = rows[rows.probe == "few_labels"]
    used = {p: own[own.metric == f"images_{p}_percent"].value.median() for p in (1, 10, 100)}
    note = ", ".join(f"{p} %: {count:.0f} images" for p, count in used.items() if count == count)
    shown = {f"accuracy_{p}_percent": f"{p} %" for p in (1, 10, 100)}
    alt = "Linear accuracy with 1, 10 and 100 per cent of the labels, a panel for each backbone."
    return (
        f"<p>The linear probe with fewer labels, means over draws ({note}).</p>"
        + _picture(study, "few-labels", pictures.few_labels(own, study.techniques, study.backbones), alt)
        + _matrix(own, study, shown)
        + _inspect_source(study, "few_labels")
        + _few_finetuned(study)
    )


def _few_finetuned(study: Study) -> str:
    """Where it was asked for, for it takes as long as all the rest."""
    own = study.rows[study.rows.probe == "few_finetune"]
    if own.empty:
        return (
            "<p>The whole network fine-tuned with few labels: not asked for; <code>--probes linear knn few_finetune"
            "</code> adds it to the study.</p>"
        )
    counts = {p: own[own.metric == f"images_{p}_percent"].value.median() for p in (1, 10)}
    return (
        f"<h3>Fine-tuned</h3><p>The whole network learns from {counts[1]:.0f} and from {counts[10]:.0f} labelled "
        "images; means over draws, on all test images. Random init learns from scratch.</p>"
        + _matrix(own, study, {f"accuracy_{p}_percent": f"{p} %" for p in (1, 10)}, "random_init")
        + _source(study, "results.csv", "few_finetune")
    )


# -- how it was measured ----------------------------------------------------------------------------------------------


def _protocol(study: Study) -> Section:
    record = study.record
    facts = {
        "data": record.get("data"), "digest of the unlabelled images": record.get("data_digest"),
        "judged on": record.get("judge"), "images without labels": record.get("pool_images"),
        "labelled images": record.get("train_images"), "test images": record.get("test_images"),
        "size": f"{record.get('image_size')} px", "epochs": record.get("epochs"), "batch": record.get("batch"),
        "a checkpoint every": record.get("every"), "recipe": record.get("recipe"), "seeds": record.get("seeds"),
        "machine": record.get("machine"), "versions": record.get("versions"), "commit": record.get("commit"),
        "electricity of": record.get("country"),
    }  # fmt: skip
    lines = "".join(
        f"<tr><th scope=row>{_text(key)}</th><td>{_text(_flat(value))}</td></tr>" for key, value in facts.items()
    )
    text = (
        "<p>Everything that determines a cell but its technique and backbone is the same for all: images, size, "
        "epochs, batch. "
        "No label is seen in pretraining. The linear probe is fitted on nine tenths of the labelled images; the "
        "tenth chooses "
        "its weight decay and the checkpoint; the test images choose nothing, except in the column that says so. The "
        "sections "
        f"from Saliency on use a sample of {TRAIN} labelled and {TEST} test images, and the last "
        "checkpoint.</p>"
    )
    return Section("protocol", "Data, protocol, machine", f"{text}<div class=wide><table>{lines}</table></div>")


# -- the page ---------------------------------------------------------------------------------------------------------


def _page(study: Study, sections: Sequence[Section]) -> str:
    from plotly.offline import get_plotlyjs

    links = "".join(f'<a href="#{one.anchor}">{_text(one.title)}</a>' for one in sections)
    bodies = "".join(f'<section id="{one.anchor}"><h2>{_text(one.title)}</h2>{one.body}</section>' for one in sections)
    title = f"Lilliput: {study.record.get('data', '')} judged on {study.record.get('judge', '')}"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; img-src data: blob:\">"
        f"<link rel=icon href=data:,><title>{_text(title)}</title>"
        f"<style>{(ASSETS / 'page.css').read_text()}</style></head><body>"
        f"<header><h1>{_text(title)}</h1><nav aria-label=Sections>{links}</nav></header><main>{bodies}</main>"
        f"<script>{get_plotlyjs()}</script><script>{(ASSETS / 'page.js').read_text()}</script></body></html>"
    )


def _twin(name: str, plot: dict, static: Figure, alt: str) -> str:
    """A figure that answers to the pointer, and a still one for print."""
    return _plot(name, plot, alt) + f"<div class=print>{_embedded(static, alt)}</div>"


def _plot(name: str, figure: dict, alt: str) -> str:
    return (
        f'<div class="plot screen" id="plot-{name}" role=img aria-label="{_text(alt)}"></div>'
        f'<script type=application/json class=figure data-for="plot-{name}">{_json(figure)}</script>'
    )


def _picture(study: Study, name: str, figure: Figure | None, alt: str) -> str:
    """A still figure, also written as <study>/inspect/<name>.png and .svg."""
    if figure is None:
        return ""
    (study.folder / "inspect").mkdir(parents=True, exist_ok=True)
    figures.save(figure, study.folder / "inspect" / name)
    return _embedded(figure, alt)


def _embedded(figure: Figure, alt: str) -> str:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=160, facecolor="white")
    shown = Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)  # a third of the bytes
    small = io.BytesIO()
    shown.save(small, format="png", optimize=True)
    data = base64.b64encode(small.getvalue()).decode()
    size = f"width={shown.width} height={shown.height}"
    return f'<figure><img alt="{_text(alt)}" {size} src="data:image/png;base64,{data}"></figure>'


def _thumbnail(store: Images, row: int) -> str:
    pixels = store.batch(np.array([row]))[0].permute(1, 2, 0).numpy()
    image, drawn = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((64, 64))
    image.save(drawn, format="jpeg", quality=70)
    return base64.b64encode(drawn.getvalue()).decode()


def _matrix(rows: pd.DataFrame, study: Study, metrics: dict[str, str], *baselines: str) -> str:
    """A row for each technique (and baseline) and backbone, a column for each metric; means over seeds."""
    wide = rows[rows.metric.isin(metrics)].groupby(["technique", "backbone", "metric"]).value.mean().unstack()
    lines = []
    for technique in [*study.techniques, *baselines]:
        for backbone in study.backbones:
            if (technique, backbone) in wide.index:
                values = wide.loc[(technique, backbone)]
                lines.append([_title(technique), backbone, *(_number(values.get(metric)) for metric in metrics)])
    return _plain_table(["technique", "backbone", *metrics.values()], lines)


def _plain_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope=col aria-sort=none><button type=button>{_text(title)}</button></th>" for title in header)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return _sortable(head, body)


def _cell(text: str) -> str:
    number = text[:1].isdigit() or text[:1] in ".+-–"
    return f"<td{' class=number' if number else ''}>{_text(text)}</td>"


def _sortable(head: str, body: str) -> str:
    return f"<div class=wide><table class=sortable><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _source(study: Study, file: str, probes: str) -> str:
    return (
        f"<p class=source>From {_text(file)}, rows of {_text(probes)}; made anew by <code>lilliput report "
        f"{_text(study.folder.name)}</code>.</p>"
    )


def _inspect_source(study: Study, probe: str) -> str:
    return _source(study, "inspect/results.csv", probe)


def _json(content: Any) -> str:
    """JSON that no name in it can end early."""
    text = json.dumps(content, default=_plain)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _text(value: Any) -> str:
    return html.escape(visible(str(value)))


def _title(technique: str) -> str:
    return paper.technique(technique) or technique.replace("_", " ")


def _share(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}"


def _number(value: Any) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 and value != round(value) else f"{value:.4g}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _count(value: float) -> str:
    return next(
        (f"{value / unit:.3g} {name}" for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= unit),
        f"{value:.0f}",
    )


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items() if one is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _spearman(one: pd.Series, two: pd.Series) -> float:
    one, two = one.rank(), two.rank()
    return float(one.corr(two)) if len(one) > 2 and one.nunique() > 1 and two.nunique() > 1 else math.nan
