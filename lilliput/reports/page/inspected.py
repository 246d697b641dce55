"""The sections that need the images: one that fails says why and costs no other."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lilliput.reports.page import examples, html, probed, skips
from lilliput.reports.page.crew import share_out
from lilliput.reports.page.looks import Sample, inspect
from lilliput.reports.page.section import Inspection, Section, Study, open_inspection
from lilliput.reports.style import own_style
from lilliput.system.progress import say


class Maker(NamedTuple):
    """A section to be made: its anchor and title, what makes its body, which studies it is about and if it
    takes long."""

    anchor: str
    title: str
    make: Callable[[Inspection], str]
    concerns: Callable[[Study], object] = lambda study: True
    is_slow: bool = False


MAKERS = (
    Maker("saliency", "What the score hangs on", examples.saliency, is_slow=True),
    Maker("neighbours", "Nearest neighbours", examples.neighbours, is_slow=True),
    Maker("mistakes", "Mistakes", examples.mistakes),
    Maker("colour", "Is it colour that decides?", probed.colour),
    Maker("layers", "Layers", probed.layers),
    Maker("skips", "What skips did", skips.skips, concerns=skips.twins),
    Maker("geometry", "Geometry without labels", probed.geometry),
    Maker("map", "Maps of the test images", examples.maps, is_slow=True),
    Maker("few_labels", "Few labels", probed.few_labels),
)


def inspected(study: Study, sample: Sample, *, workers: int = 1) -> Inspection:
    """The study with what probes say of its encoders; those that were not inspected yet are, so many at once."""
    inspection = open_inspection(study, sample)
    close = inspection.by_technique
    rows = inspect(study.folder, study.record["judge"], sample, close=close, workers=workers)
    return replace(inspection, rows=rows)


def inspected_sections(inspection: Inspection, *, workers: int = 1) -> list[Section]:
    """In the order of the page; so many are made at once, those first that take longest."""
    makers = [maker for maker in MAKERS if maker.concerns(inspection.study)]
    with tempfile.TemporaryDirectory(prefix="lilliput-") as name:
        folder = Path(name)
        jobs = [
            (maker.anchor, partial(_write, maker.make, folder / maker.anchor))
            for maker in sorted(makers, key=lambda maker: not maker.is_slow)
        ]
        desk = partial(_same, inspection)
        errors = share_out(jobs, desk, label="the page's sections", workers=min(workers, len(jobs)), folder=folder)
        return [Section(maker.anchor, maker.title, _body(maker, folder, errors)) for maker in makers]


@own_style()
def _write(make: Callable[[Inspection], str], path: Path, inspection: Inspection) -> bool:
    path.write_text(make(inspection), encoding="utf-8")
    return True


def _same(inspection: Inspection) -> Inspection:
    """What a worker makes sections of: its own copy."""
    return inspection


def _body(maker: Maker, folder: Path, errors: dict[str, str]) -> str:
    """What was written, or what went wrong."""
    if error := errors.get(maker.anchor):
        say(f"the report's section {maker.title!r} is empty: {error}")
        return f"<p>This section could not be made: {html.text(error)}</p>"
    return (folder / maker.anchor).read_text(encoding="utf-8")
