"""Sections from results.csv for probes that a study was asked for, on all its test images, baselines beside."""

from typing import NamedTuple

from lilliput.catalog import BASELINES
from lilliput.images.corrupt import KINDS
from lilliput.reports.page import html
from lilliput.reports.page.section import Section, Study, matrix, source
from lilliput.reports.words import title
from lilliput.studies.results import CELL


class Asked(NamedTuple):
    """What the section of a probe is called and says, and its columns: metric -> title."""

    title: str
    text: str
    columns: dict[str, str]


SECTIONS = {
    "calibration": Asked(
        "How sure, how right",
        "Whether the linear probe is as often right as it is sure: the expected calibration error, what chance alone "
        "makes of it with so many images, the negative log-likelihood in nats; and both after a division by the "
        "temperature that suits the held-out images. A temperature above 1: it was too sure.",
        {
            "ece": "ECE",
            "ece_by_chance": "ECE by chance",
            "nll": "NLL",
            "temperature": "temperature",
            "ece_tempered": "ECE after it",
            "nll_tempered": "NLL after it",
        },
    ),
    "robustness": Asked(
        "Spoilt images",
        "What is left of the linear probe's accuracy on spoilt test images, a mean over three severities of each kind. "
        "What tells little apart has little to lose.",
        {
            "accuracy_clean": "as they are",
            "accuracy_corrupted": "spoilt, mean",
            "relative_drop": "relative drop",
            **{f"accuracy_{kind}": title(kind) for kind in KINDS},
        },
    ),
    "segmentation": Asked(
        "Object or background",
        "Mean IoU of object and background over places of the test images that have a mask. The mean mask of the "
        "images that were learned from knows where objects are without a look at the image: what is not above it shows "
        "no sight of the object.",
        {
            "miou_linear": "linear layer",
            "miou_linear_half": "±",
            "miou_knn": "nearest places",
            "miou_knn_half": "±",
            "miou_mean_mask": "mean mask",
            "miou_all_object": "all object",
        },
    ),
}


def asked_sections(study: Study) -> list[Section]:
    """Of the probes that the study has rows of, each cell's last checkpoint."""
    sections = []
    for probe, (heading, text, columns) in SECTIONS.items():
        rows = study.rows[study.rows.probe == probe]
        if rows.empty:
            continue
        last = rows[rows.epoch == rows.groupby(CELL).epoch.transform("max")]
        table = matrix(study, last, columns, *BASELINES)
        body = f"<p>{html.text(text)} At the last checkpoint.</p>{table}{source(study, probe)}"
        sections.append(Section(probe, heading, body))
    return sections
