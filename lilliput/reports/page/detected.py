"""The section of object detection, where `lilliput detect` was given the study: AP, and what the best one found."""

from lilliput.reports.page import html
from lilliput.reports.page.section import Section, Study, matrix, source
from lilliput.reports.words import title
from lilliput.studies import results

FOLDER = "detection"  # in the study's
MODES = {"frozen": "The encoder stays as it is", "tuned": "The encoder learns too"}
METRICS = {"ap": "AP", "ap50": "AP at an overlap of .5"}


def detected_sections(study: Study) -> list[Section]:
    """None where there are no rows of it."""
    rows = results.read(study.folder / FOLDER)
    if rows.empty:
        return []
    parts = [
        "<p>SSDLite detectors on the last encoders, all trained by one schedule on images with boxes. AP: COCO's, the "
        "mean over overlaps of .5 to .95.</p>"
    ]
    for mode, heading in MODES.items():
        own = rows[rows.probe == f"{FOLDER}_{mode}"]
        if not own.empty:
            parts.append(f"<h4>{heading}</h4>{matrix(study, own, METRICS, 'random_init', 'imagenet')}")
    best = rows[rows.metric == "ap"].sort_values("value").iloc[-1]
    mode = best.probe.removeprefix(f"{FOLDER}_")
    name = f"{best.technique}-{best.backbone.replace('/', '_')}-{best.seed}-{best.epoch:03d}-{mode}.png"
    drawn = study.folder / FOLDER / name
    if drawn.exists():
        alt = f"Boxes on test images: there, and found by {title(best.technique)} on {best.backbone}, {mode}."
        parts.append(html.picture(drawn.read_bytes(), alt))
    return [
        Section("detection", "Object detection", "".join(parts) + source(study, "detection", f"{FOLDER}/results.csv"))
    ]
