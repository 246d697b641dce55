"""What an export is and costs: one table, as Markdown, and one picture."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lilliput.reports import markdown
from lilliput.reports.figures import COLOURS, DPI, SMALL, WIDTH, drawn
from lilliput.reports.style import own_style
from lilliput.reports.words import ABSENT, shortest

HEADER = ["what", "file", "accuracy", "same class", "MiB", "load ms", "first ms", "p50 ms", "p95 ms", "peak MiB"]
HEADER += ["kWh of pretraining"]
FIGURES = ("mib", "load_ms", "first_ms", "p50_ms", "p95_ms", "peak_mib", "kwh")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each of torch, the exported file, and that of eight bits; what was not measured is a dash."""
    lines = []
    for row in rows:
        shares = [ABSENT if row.get(name) is None else f"{row[name]:.3f}" for name in ("accuracy", "agreement")]
        figures = [ABSENT if row.get(name) is None else shortest(row[name]) for name in FIGURES]
        lines.append([row["what"], markdown.escape(row["file"]), *shares, *figures])
    return markdown.table(HEADER, lines)


@own_style()
def picture(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """A PNG: accuracy, p50 with its way to p95, size, of each row; and the energy of pretraining, which all share."""
    panels = {"accuracy": "accuracy", "ms for an image, to p95": "p50_ms", "MiB of the file": "mib"}
    figure = Figure(figsize=(WIDTH, 0.9 + 0.32 * len(rows)), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(panels) + 1, sharey=False, width_ratios=[3, 3, 3, 2])
    names = [row["what"] for row in rows]
    for number, (axis, (name, column)) in enumerate(zip(axes, panels.items(), strict=False)):
        values = [row.get(column) for row in rows]
        ends = [row.get("p95_ms") if column == "p50_ms" else None for row in rows]
        _bars(axis, names if number == 0 else [""] * len(rows), values, ends)
        axis.set_title(name, fontsize=SMALL)
    _bars(axes[-1], [""], [rows[0].get("kwh")], [None])
    axes[-1].set_title("kWh of pretraining", fontsize=SMALL)
    figure.suptitle(title, fontsize=SMALL + 1, parse_math=False)
    return drawn(figure, "png")


def _bars(axis: Axes, names: Sequence[str], values: Sequence[float | None], ends: Sequence[float | None]) -> None:
    """From the top; what is not known has no bar and a dash."""
    for place, (value, end) in enumerate(zip(values, ends, strict=True)):
        known = value is not None
        axis.barh(place, value or 0.0, color=COLOURS[place % len(COLOURS)], height=0.6)
        if end is not None and known:
            axis.plot([value or 0.0, end], [place, place], color="0.25", linewidth=1.0, marker="|", markersize=4)
        text = shortest(value) if value is not None else ABSENT
        axis.annotate(
            text,
            (max(value or 0.0, end or 0.0), place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL - 1,
        )
    axis.set_yticks(range(len(names)), names, fontsize=SMALL)
    axis.invert_yaxis()
    axis.margins(x=0.35)
    axis.set_xlim(left=0)
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
