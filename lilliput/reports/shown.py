"""A study or a run as a notebook shows it: its table as a frame, its figures as pictures, both in one."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lilliput.errors import BadData
from lilliput.reports import figures, tables
from lilliput.reports.material import open_material
from lilliput.training.record import read_log

OF_A_RUN = ("loss", "effective_rank")  # columns of its log that are drawn


@dataclass(frozen=True)
class Picture:
    """A figure of matplotlib's that draws itself in a notebook, whatever its backend."""

    figure: Figure

    def _repr_png_(self) -> bytes:
        return figures.drawn(self.figure, "png")


@dataclass(frozen=True)
class Shown:
    """The table and the pictures of a folder; `rows` is all that they come from."""

    title: str
    rows: pd.DataFrame
    table: pd.DataFrame
    pictures: dict[str, Picture]

    def _repr_html_(self) -> str:
        encoded = {name: base64.b64encode(picture._repr_png_()).decode() for name, picture in self.pictures.items()}
        images = [
            f'<p><img style="max-width: 100%" alt="{name}" src="data:image/png;base64,{data}"></p>'
            for name, data in encoded.items()
        ]
        table = self.table.to_html(float_format="%.3f", na_rep="")  # it escapes names
        return "\n".join([f"<p><b>{html.escape(self.title)}</b></p>", table, *images])


def shown(folder: Path) -> Shown:
    """Of a study: accuracies by the linear probe at the chosen checkpoint, and the figures; of a run: its log."""
    if (folder / "run.json").exists():
        return _of_run(folder)
    material = open_material(folder)
    if material.rows.empty:
        raise BadData(f"{folder} holds neither a run nor judged rows of a study; name the folder of one")
    rows = material.rows
    judge = rows["judge"].iloc[0]  # a study's own comes first
    own = rows[rows["judge"] == judge]
    drawn = {name: Picture(tables.FIGURES[name](own)) for name in tables.drawable(own)}
    return Shown(f"{folder.name}: accuracy on {judge}", rows, tables.accuracies(own), drawn)


def _of_run(folder: Path) -> Shown:
    log = pd.DataFrame(read_log(folder))
    if log.empty:
        raise BadData(f"{folder} has no epoch in its log yet")
    log = log.set_index("epoch")
    figure = Figure(figsize=(figures.WIDTH, figures.WIDTH / 3), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(OF_A_RUN)), OF_A_RUN, strict=True):
        axes.plot(log.index, log[column], color=figures.COLOURS[0], marker=figures.MARKERS[0])
        axes.set(xlabel="epoch", ylabel=column.replace("_", " "))
        figures.dress(axes)
    return Shown(folder.name, log, log[[*OF_A_RUN, "seconds"]].tail(1), {"log": Picture(figure)})
