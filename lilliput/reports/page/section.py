"""What the page's sections are made from, opened once, and what they end in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from lilliput.catalog import BASELINES
from lilliput.errors import BadData
from lilliput.reports import figures, paper
from lilliput.reports.gaps import comparable
from lilliput.reports.material import Material
from lilliput.reports.page import html
from lilliput.reports.page.looks import Sample, trained_runs
from lilliput.reports.verdict import Standing, learned, standings
from lilliput.reports.words import metric_value, title
from lilliput.studies.record import read_study
from lilliput.studies.results import CELL

Cells = list[tuple[str, str]]  # technique and backbone


class Section(NamedTuple):
    """A part of the page: its anchor and title, and what it holds, as HTML."""

    anchor: str
    title: str
    body: str


@dataclass(frozen=True)
class Study:
    """What the page is about: rows of the study's own judge, their names in order, and its settings."""

    folder: Path
    rows: pd.DataFrame
    record: dict[str, Any]
    techniques: list[str]
    backbones: list[str]

    @property
    def test_images(self) -> int:
        return self.record["test_images"]

    @cached_property
    def standings(self) -> list[Standing]:
        """All cells and baselines, the most accurate first."""
        return standings(self.rows, self.test_images)

    @cached_property
    def learned(self) -> dict[tuple[str, str], str]:
        """Of each technique and backbone: where it is beside its untrained network."""
        return learned(self.rows, test_images=self.test_images)

    @property
    def seeds(self) -> int:
        """How many."""
        return self.rows[~self.rows.technique.isin(BASELINES)].seed.nunique()


@dataclass(frozen=True)
class Inspection:
    """A study, the images that its encoders are inspected on, what probes say of them, and the cells to show."""

    study: Study
    sample: Sample
    rows: pd.DataFrame
    technique: str  # of the most accurate cell
    backbone: str

    @property
    def by_technique(self) -> Cells:
        """Each technique on the backbone of the most accurate cell."""
        return [(technique, self.backbone) for technique in self.study.techniques]

    @property
    def by_backbone(self) -> Cells:
        """The technique of the most accurate cell on each backbone."""
        return [(self.technique, backbone) for backbone in self.study.backbones]

    def of(self, probe: str) -> pd.DataFrame:
        """The rows of a probe."""
        return self.rows[self.rows.probe == probe]


def open_study(material: Material) -> Study:
    """BadData where study.json is not whole, or its judge has no rows of the linear probe yet."""
    folder, record = material.folder, read_study(material.folder)
    rows = comparable(material, material.rows[material.rows.judge == record["judge"]])
    if rows.empty:
        raise BadData(f"{folder} has no judged rows yet; run its study first")
    if not (rows.probe == "linear").any():
        raise BadData(f"{folder} has no rows of the linear probe, which report.html compares by: add it to --probes")
    trained = rows[~rows.technique.isin(BASELINES)]
    techniques = paper.in_order(trained.technique, paper.TECHNIQUES)
    return Study(folder, rows, record, techniques, paper.in_order(trained.backbone, paper.BACKBONES))


def open_inspection(study: Study, sample: Sample) -> Inspection:
    """Around the study's most accurate cell, of those that have trained encoders still; without rows yet."""
    cells = [cell for cell in study.standings if cell.technique not in BASELINES]
    best = next((cell for cell in cells if trained_runs(study.folder, cell.technique, cell.backbone)), cells[0])
    return Inspection(study, sample, study.rows[:0], best.technique, best.backbone)


def still(study: Study, name: str, figure: Figure, alt: str, *, kinds: Sequence[str] = ("png", "svg")) -> str:
    """A still figure, also written as <study>/inspect/<name>.png and .svg, or of these kinds, first of them png."""
    (study.folder / "inspect").mkdir(parents=True, exist_ok=True)
    png, *_ = figures.save(figure, study.folder / "inspect" / name, kinds=kinds)
    return html.picture(png.read_bytes(), alt)


def matrix(study: Study, rows: pd.DataFrame, metrics: dict[str, str], *baselines: str) -> str:
    """A row for each technique (and baseline) and backbone, a column for each metric: its title. Means over seeds."""
    wide = rows[rows.metric.isin(metrics)].groupby(["technique", "backbone", "metric"]).value.mean().unstack()
    lines = []
    for technique in [*study.techniques, *baselines]:
        for backbone in [*study.backbones, ""]:  # pixels have none
            if (technique, backbone) in wide.index:
                values = wide.loc[(technique, backbone)]
                lines.append([title(technique), backbone, *(metric_value(values.get(metric)) for metric in metrics)])
    return html.table(["technique", "backbone", *metrics.values()], lines)


def last_trained(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of each run's last checkpoint; epoch 0 is none."""
    trained = rows[rows.epoch > 0]
    return trained[trained.epoch == trained.groupby(CELL).epoch.transform("max")]


def source(study: Study, probes: str, file: str = "results.csv") -> str:
    """Where the section's numbers come from."""
    return (
        f"<p class=source>From {html.text(file)}, rows of {html.text(probes)}; made anew by <code>lilliput report "
        f"{html.text(study.folder.name)}</code>.</p>"
    )


def inspected_source(inspection: Inspection, probe: str) -> str:
    """As `source`, of what was measured on the sample."""
    return source(inspection.study, probe, "inspect/results.csv")
