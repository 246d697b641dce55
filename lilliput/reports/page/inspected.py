"""The sections that need the images: one that fails says why and costs no other."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from lilliput.reports.page import examples, html, probed, skips
from lilliput.reports.page.looks import Sample, inspect
from lilliput.reports.page.section import Inspection, Section, Study, open_inspection
from lilliput.system.progress import say


class Maker(NamedTuple):
    """A section to be made: its anchor and title, what makes its body, and which studies it is about."""

    anchor: str
    title: str
    make: Callable[[Inspection], str]
    concerns: Callable[[Study], object] = lambda study: True


MAKERS = (
    Maker("saliency", "What the score hangs on", examples.saliency),
    Maker("neighbours", "Nearest neighbours", examples.neighbours),
    Maker("mistakes", "Mistakes", examples.mistakes),
    Maker("colour", "Is it colour that decides?", probed.colour),
    Maker("layers", "Layers", probed.layers),
    Maker("skips", "What skips did", skips.skips, concerns=skips.twins),
    Maker("geometry", "Geometry without labels", probed.geometry),
    Maker("map", "Maps of the test images", examples.maps),
    Maker("few_labels", "Few labels", probed.few_labels),
)


def inspected(study: Study, sample: Sample, *, workers: int = 1) -> Inspection:
    """The study with what probes say of its encoders; those that were not inspected yet are, so many at once."""
    inspection = open_inspection(study, sample)
    close = inspection.by_technique
    rows = inspect(study.folder, study.record["judge"], sample, close=close, workers=workers)
    return replace(inspection, rows=rows)


def inspected_sections(inspection: Inspection) -> list[Section]:
    """In the order of the page."""
    makers = [maker for maker in MAKERS if maker.concerns(inspection.study)]
    return [Section(maker.anchor, maker.title, _body(maker, inspection)) for maker in makers]


def _body(maker: Maker, inspection: Inspection) -> str:
    try:
        return maker.make(inspection)
    except Exception as error:  # whatever is amiss in one section costs no other
        say(f"the report's section {maker.title!r} is empty: {error}")
        return f"<p>This section could not be made: {html.text(error)}</p>"
