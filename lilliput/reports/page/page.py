"""report.html: a study in one page that opens anywhere; it loads nothing, and every figure says where it comes from."""

import base64
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lilliput.data.store import Images
from lilliput.errors import BadData, wanted
from lilliput.reports.material import Material, open_material
from lilliput.reports.page import html
from lilliput.reports.page.cells import cells_of
from lilliput.reports.page.detected import detected_sections
from lilliput.reports.page.inspected import inspected, inspected_sections
from lilliput.reports.page.looks import TEST, TRAIN, sample_of
from lilliput.reports.page.measured import measured_sections
from lilliput.reports.page.overview import overview_section
from lilliput.reports.page.section import Inspection, Section, Study, open_study
from lilliput.reports.style import own_style
from lilliput.reports.words import ABSENT, flat
from lilliput.system.files import write_whole

ASSETS = Path(__file__).parent / "assets"
LIBRARIES = ("plotly", "captum", "sklearn")
FACTS = {
    "data": "data",
    "digest of the unlabelled images": "data_digest",
    "judged on": "judge",
    "by": "probes",
    "images without labels": "pool_images",
    "labelled images": "train_images",
    "test images": "test_images",
    "size": "image_size",
    "epochs": "epochs",
    "batch": "batch",
    "a checkpoint every": "every",
    "recipe": "recipe",
    "started from": "init",
    "seeds": "seeds",
    "machine": "machine",
    "versions": "versions",
    "commit": "commit",
    "electricity of": "country",
    "went on under": "went_on",
}


def write_page(folder: Path, judging: tuple[Images, Images] | None = None, *, workers: int = 1) -> Path:
    """Write <study>/report.html, and its pictures below <study>/inspect; returns the page.

    `judging`: the labelled stores, train and test, if they do not lie prepared on this machine. BadSetting without the
    libraries of the extra `report`; without the images the page has no pictures and says so. `workers`: so many
    encoders are inspected at once, and sections made.
    """
    return write_report(open_material(folder), judging, workers=workers)


@own_style()
def write_report(material: Material, judging: tuple[Images, Images] | None = None, *, workers: int = 1) -> Path:
    """As `write_page`, of a folder that was read already."""
    for library in LIBRARIES:
        wanted(library, extra="report")
    study = open_study(material)
    inspection, pictures = _with_images(study, judging, workers)
    sections = [
        overview_section(study),
        *measured_sections(study),
        *detected_sections(study),
        *pictures,
        protocol_section(study),
    ]
    path = study.folder / "report.html"
    write_whole(path, _composed(study, sections, cells_of(study, inspection)).encode())
    return path


def _with_images(
    study: Study, judging: tuple[Images, Images] | None, workers: int
) -> tuple[Inspection | None, list[Section]]:
    """The sections of images; where these are not to be had and none were given, one that says so."""
    try:
        sample = sample_of(study.record, judging)
    except BadData as error:
        if judging:
            raise
        return None, [Section("pictures", "Pictures", f"<p>There are none: {html.text(error)}.</p>")]
    inspection = inspected(study, sample, workers=workers)
    return inspection, inspected_sections(inspection, workers=workers)


def protocol_section(study: Study) -> Section:
    """What is the same for all cells, and on what the study ran."""
    facts = {name: flat(study.record.get(setting)) or ABSENT for name, setting in FACTS.items()}
    facts["size"] += " px"
    for name in ("started from", "went on under"):
        if facts[name] == ABSENT:
            del facts[name]
    text = (
        "<p>Everything that determines a cell but its technique and backbone is the same for all: images, size, "
        "epochs, batch. No label is seen in pretraining. The linear probe is fitted on nine tenths of the labelled "
        "images; the tenth chooses its weight decay, with which it is fitted on all of them, and the checkpoint; the "
        "test images choose nothing, except in the column that says so. The sections from Saliency on use a sample of "
        f"{TRAIN} labelled and {TEST} test images, and the last checkpoint.</p>"
    )
    return Section("protocol", "Data, protocol, machine", text + html.facts(facts))


def _composed(study: Study, sections: Sequence[Section], cells: dict[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    links = "".join(f'<a href="#{section.anchor}">{html.text(section.title)}</a>' for section in sections)
    bodies = "".join(
        f'<section id="{section.anchor}"><h2>{html.text(section.title)}</h2>{section.body}</section>'
        for section in sections
    )
    title = f"Lilliput: {study.record.get('data', '')} judged on {study.record['judge']}"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; img-src data: blob:\">"
        f"<link rel=icon href=data:,><title>{html.text(title)}</title>"
        f"<style>{_asset('page.css')}</style></head><body>"
        f"<header><h1>{html.text(title)}</h1><nav aria-label=Sections>{links}</nav></header><main>{bodies}</main>"
        "<dialog id=compared aria-label='Two cells side by side'></dialog><div id=tip hidden></div>"
        f"<script type=application/json id=cells-data>{html.script_json(cells)}</script>"
        f"<script type=application/gzip id=plotly>{_packed(get_plotlyjs())}</script>"
        f"<script>{_asset('page.js')}{_asset('cells.js')}</script></body></html>"
    )


def _packed(code: str) -> str:
    """A script of megabytes as gzip in base64, two fifths of it; page.js unpacks it. The same for the same script."""
    return base64.b64encode(gzip.compress(code.encode(), mtime=0)).decode()


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
