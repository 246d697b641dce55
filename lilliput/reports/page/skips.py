"""The section on what skips did, of a study that holds a backbone and its plain twin: resnet18 and resnet18_plain."""

import math

import pandas as pd

from lilliput.reports.page import html
from lilliput.reports.page.section import Inspection, Study, inspected_source, last_trained, source
from lilliput.reports.words import ABSENT, share, signed, title
from lilliput.studies.statistics import difference, select

PLAIN = "_plain"
BASELINES = ("random_init", "random_init_measured", "supervised")  # that are networks of the study's own backbones


def twins(study: Study) -> list[tuple[str, str]]:
    """The backbones of the study, each with its plain twin, of which both are there."""
    return [(name, name + PLAIN) for name in study.backbones if name + PLAIN in study.backbones]


def skips(inspection: Inspection) -> str:
    """Accuracies with and without, and the same by stage."""
    study, stages = inspection.study, last_trained(inspection.of("layers"))
    return (
        "<p>The same layers with their skips and without (a projection, which a skip alone has, goes with it): test "
        "accuracy of the linear probe at the chosen checkpoint and at the best on test, and what skips add, with its "
        "95 % interval.</p>"
        f"{_accuracies(study)}{source(study, 'linear')}"
        "<h3>By stage</h3><p>Of the linear probe on each stage of the last checkpoint: with skips / without.</p>"
        f"{_by_stage(study, stages)}{inspected_source(inspection, 'layers')}"
    )


def _accuracies(study: Study) -> str:
    best = select(study.rows).groupby(["technique", "backbone"]).best.mean()
    chosen = {(cell.technique, cell.backbone): cell for cell in study.standings}
    lines = []
    for technique in [*study.techniques, *BASELINES]:
        for one, other in twins(study):
            ours, theirs = chosen.get((technique, one)), chosen.get((technique, other))
            if ours is None or theirs is None:
                continue
            gap = difference(ours.mean, theirs.mean)
            most, least = best[technique, one], best[technique, other]
            lines.append(
                [
                    title(technique),
                    one,
                    *(share(cell.accuracy) for cell in (ours, theirs)),
                    signed(gap.value, 3) + (f" ± {share(gap.half)}" if gap.half is not None else ""),
                    *(share(value) for value in (most, least)),
                    signed(most - least, 3),
                ]
            )
    columns = ["with skips", "without", "skips add"]
    return html.table(["technique", "backbone", *columns, *(f"{name}, best on test" for name in columns)], lines)


def _by_stage(study: Study, rows: pd.DataFrame) -> str:
    rows = rows[rows.metric.str.fullmatch(r"linear_stage_\d+")]
    means = rows.groupby(["technique", "backbone", "metric"]).value.mean()
    stages = sorted(int(metric.rpartition("_")[2]) for metric in rows.metric.unique())
    lines = []
    for technique in study.techniques:
        for one, other in twins(study):
            pairs = [
                [means.get((technique, name, f"linear_stage_{stage}"), math.nan) for name in (one, other)]
                for stage in stages
            ]
            lines.append([title(technique), one, *(_compared(*pair) for pair in pairs)])
    return html.table(["technique", "backbone", *(f"stage {stage}" for stage in stages)], lines)


def _compared(ours: float, theirs: float) -> str:
    if math.isnan(ours + theirs):
        return ABSENT
    return f"{share(ours)} / {share(theirs)} ({signed(ours - theirs, 3)})"
