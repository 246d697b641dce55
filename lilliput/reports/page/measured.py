"""Sections from results.csv alone: the table, accuracy against pretraining and against cost."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from lilliput.catalog import BASELINES
from lilliput.reports import figures, paper
from lilliput.reports.page import html
from lilliput.reports.page.asked import asked_sections
from lilliput.reports.page.section import Section, Study, source, still
from lilliput.reports.words import ABSENT, count, share, shortest, title
from lilliput.studies.results import CELL
from lilliput.studies.statistics import select
from lilliput.system.progress import duration


class Column(NamedTuple):
    """Of the table: a column of `_cells`, what it is headed, and how its numbers are written."""

    name: str
    title: str
    shown: Callable[[float], str]


class Quantity(NamedTuple):
    """Something that a cell costs: a column of `_cells`, in words, and its unit."""

    column: str
    title: str
    unit: float


class Axis(NamedTuple):
    """What the panels of a figure stand for, and what its lines."""

    panel: str
    line: str
    still: Callable[[pd.DataFrame], Figure]


COLUMNS = (
    Column("chosen", "chosen checkpoint", share),
    Column("last", "last", share),
    Column("best", "best on test", share),
    Column("knn", "kNN", share),
    Column("parameters", "parameters", count),
    Column("multiply_adds", "multiply-adds", count),
    Column("seconds", "pretraining", duration),
    Column("kwh", "Wh", lambda kwh: shortest(kwh * 1000)),
    Column("grams_co2", "g CO2", shortest),
)
ACCURACIES = ("chosen", "last", "best", "knn")
COSTS = ("parameters", "multiply_adds", "seconds", "kwh", "grams_co2")
QUANTITIES = (
    Quantity("multiply_adds", "multiply-adds an image, millions", 1e6),
    Quantity("seconds", "seconds of pretraining", 1.0),
    Quantity("kwh", "energy of pretraining, Wh", 1e-3),
)
CURVES = {
    "figure1": Axis("technique", "backbone", figures.figure1),
    "figure2": Axis("backbone", "technique", figures.figure2),
}
ORDERS = {"technique": paper.TECHNIQUES, "backbone": paper.BACKBONES}


def measured_sections(study: Study) -> list[Section]:
    """In the order of the page."""
    cells = _cells(study)
    first = [table_section(study, cells), *_curve_sections(study)]
    return [*first, _cost_section(study, cells), *asked_sections(study)]


def table_section(study: Study, cells: pd.DataFrame | None = None) -> Section:
    """Accuracies and costs of each cell and baseline."""
    cells = _cells(study) if cells is None else cells
    trained = cells[~cells.technique.isin(BASELINES)]
    best = {name: trained[name].max() for name in ACCURACIES}
    rows = [_row(cell, best) for _, cell in cells.iterrows()]
    spread = "of the test images and over seeds" if study.seeds > 1 else "of the test images; one seed"
    note = (
        "Test accuracy of a linear probe: at the checkpoint chosen on held-out training images, with its 95 % interval "
        f"({spread}); at the last checkpoint; and at the best on test, which is the paper's figure and selects on what "
        "it reports. kNN: 20 neighbours by cosine, last checkpoint. Grey rows are baselines. A click on a heading "
        "sorts."
    )
    table = html.sortable(["technique", "backbone", *(column.title for column in COLUMNS)], rows)
    return Section("table", "Table", f"<p>{note}</p>{table}{source(study, 'linear and knn')}")


def _row(cell: pd.Series, best: dict[str, float]) -> str:
    """A row of the table; the best of each accuracy is marked, unless it is a baseline's."""
    baseline = cell.technique in BASELINES
    texts = [f"<th scope=row>{html.text(title(cell.technique))}</th><td>{html.text(cell.backbone)}</td>"]
    for column in COLUMNS:
        value = cell[column.name]
        if pd.isna(value):
            texts.append(f'<td data-v="">{ABSENT}</td>')
            continue
        margin = f" <small>± {share(cell.half)}</small>" if column.name == "chosen" else ""
        mark = " class=best" if value == best.get(column.name) and not baseline else ""
        texts.append(f'<td data-v="{value:.6g}"{mark}>{column.shown(value)}{margin}</td>')
    return f"<tr{' class=baseline' if baseline else ''}>{''.join(texts)}</tr>"


def _cells(study: Study) -> pd.DataFrame:
    """A row for each technique and backbone: accuracies and costs, means over seeds."""
    knn = select(study.rows, probe="knn", metric="accuracy_cosine")[[*CELL, "last"]].rename(columns={"last": "knn"})
    costs = study.rows.groupby(CELL)[list(COSTS)].max().reset_index()
    frame = select(study.rows).merge(knn, on=CELL, how="left").merge(costs, on=CELL, how="left")
    frame = frame.astype({"knn": float})  # where the study has no such probe, the empty column has no type
    frame = frame.groupby(CELL[:2]).mean(numeric_only=True).reset_index()
    halves = {(cell.technique, cell.backbone): cell.half for cell in study.standings}
    frame["half"] = [halves.get((row.technique, row.backbone), math.nan) for row in frame.itertuples()]
    order = [*study.techniques, *BASELINES]
    frame["place"] = [order.index(name) for name in frame.technique]
    return frame.sort_values(["place", "backbone"])


def _curve_sections(study: Study) -> list[Section]:
    points = figures.curves(study.rows)
    sections = []
    for name, axis in CURVES.items():
        parts = f"a panel for each {axis.panel}, a line for each {axis.line}"
        alt = f"Highest linear accuracy of the checkpoints so far against epochs, {parts}; dotted: untrained."
        plot = html.plot(name, _interactive_curves(points, axis), alt)
        printed = f"<div class=print>{html.picture(figures.drawn(axis.still(study.rows), 'png'), alt)}</div>"
        heading = f"Accuracy against pretraining, by {axis.panel}"
        sections.append(Section(name, heading, plot + printed + source(study, "linear", "curves.csv")))
    return sections


def _interactive_curves(points: pd.DataFrame, axis: Axis) -> dict[str, Any]:
    from plotly.subplots import make_subplots

    panels, lines = (paper.in_order(points[column], ORDERS[column]) for column in (axis.panel, axis.line))
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    titles = [html.text(title(name)) for name in panels]
    figure = make_subplots(down, across, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.14)
    for place, panel in enumerate(panels):
        for number, line in enumerate(lines):
            curve = points[(points[axis.panel] == panel) & (points[axis.line] == line)]
            if curve.empty:
                continue
            name = html.text(title(line))
            own = {"legendgroup": line, "line_color": figures.colour_of(number)}
            place_of = {"row": place // across + 1, "col": place % across + 1}
            reached, starts = curve[curve.highest.notna()], curve[curve.start.notna()]
            figure.add_scatter(
                x=reached.epoch.tolist(),
                y=reached.highest.tolist(),
                name=name,
                showlegend=place == 0,
                mode="lines+markers",
                hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.3f}}<extra></extra>",
                **own,
                **place_of,
            )
            for start in starts.start:
                figure.add_scatter(
                    x=[0, int(curve.epoch.max())],
                    y=[start, start],
                    name=f"{name}, untrained",
                    showlegend=False,
                    mode="lines+markers",
                    line_dash="dot",
                    marker_size=[6, 0],
                    hovertemplate=f"{name}, untrained: %{{y:.3f}}<extra></extra>",
                    **own,
                    **place_of,
                )
    figure.update_layout(height=270 * down + 60)
    figure.update_xaxes(title_text="epochs", row=down)
    return figure.to_plotly_json()


def _cost_section(study: Study, cells: pd.DataFrame) -> Section:
    trained = cells[~cells.technique.isin(BASELINES)]
    parts = []
    for quantity in QUANTITIES:
        known = trained[(trained[quantity.column] > 0) & trained["last"].notna()]
        if known.empty:
            continue
        alt = f"Accuracy against {quantity.title}, with the front of the cells that no other beats on both."
        plot = html.plot(f"pareto-{quantity.column}", _interactive_cost(study, known, quantity), alt)
        parts.append(f"<h3>{quantity.title[0].upper() + quantity.title[1:]}</h3>{plot}")
    if parts:
        figure = figures.cost_figure(study.rows)
        printed = still(study, "cost", figure, "Accuracy against cost, with the Pareto front.")
        parts.append(f"<div class=print>{printed}</div>")
    return Section("cost", "Accuracy against cost", "".join(parts) + source(study, "linear"))


def _interactive_cost(study: Study, cells: pd.DataFrame, quantity: Quantity) -> dict[str, Any]:
    import plotly.graph_objects as go

    figure = go.Figure()
    cost = cells[quantity.column] / quantity.unit
    edge = figures.front(list(zip(cost, cells["last"], strict=True)))
    figure.add_scatter(
        x=[point[0] for point in edge],
        y=[point[1] for point in edge],
        mode="lines",
        line={"shape": "hv", "color": "#888"},
        name="Pareto front",
        hoverinfo="skip",
    )
    for number, technique in enumerate(study.techniques):
        own = cells.technique == technique
        name = html.text(title(technique))
        figure.add_scatter(
            x=cost[own].tolist(),
            y=cells["last"][own].tolist(),
            mode="markers",
            name=name,
            text=[html.text(backbone) for backbone in cells.backbone[own]],
            marker={"size": 10, "color": figures.colour_of(number)},
            hovertemplate=f"{name}, %{{text}}<br>%{{x:.3g}}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_layout(height=360, yaxis_title="linear accuracy, last checkpoint")
    figure.update_xaxes(type="log", title_text=quantity.title)
    return figure.to_plotly_json()
