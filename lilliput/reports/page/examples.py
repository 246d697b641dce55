"""Sections of images: what the score of some hangs on, their neighbours, the mistakes, and maps of all."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from lilliput.errors import BadData
from lilliput.reports.page import html, pictures
from lilliput.reports.page.looks import METHODS, Look, looks_of
from lilliput.reports.page.pictures import Case
from lilliput.reports.page.section import (
    Cells,
    Inspection,
    inspected_source,
    last_trained,
    matrix,
    source,
    still,
)
from lilliput.reports.words import ABSENT, share, signed, title

MAP_POINTS, MAP_STEPS = 400, 500
PAIRS_SHOWN = 10
PHOTOGRAPHS = ("png",)  # lines would not make them sharper
RETRIEVAL = {
    "precision_at_1": "precision at 1",
    "precision_at_5": "at 5",
    "precision_at_10": "at 10",
    "mean_average_precision": "mean average precision",
}


def saliency(inspection: Inspection) -> str:
    """Maps for each technique, and whether they lie on the object."""
    study, sample, scores = inspection.study, inspection.sample, inspection.of("saliency")
    parts = [
        "<p>For each class the surest image told right (green) and the surest told wrong (red), and what the score of "
        "its own class hangs on: the gradient by the pixels as in the paper's figure 3, SmoothGrad, Integrated "
        "Gradients from grey, and Grad-CAM.</p>"
    ]
    looks, gaps = _looks(inspection, inspection.by_technique, is_close=True)
    parts.append(gaps)
    for look in looks:
        figure = pictures.saliency(_cases(look, sample.test.labels), look, sample)
        alt = f"Saliency of {title(look.technique)} on {look.backbone}: images by class and four maps over each."
        heading = f"<h3>{html.text(title(look.technique))} on {html.text(look.backbone)}</h3>"
        parts.append(heading + still(study, f"saliency-{look.technique}", figure, alt, kinds=PHOTOGRAPHS))
    if scores.empty:
        parts.append("<p>The images have no masks, so whether the saliency is on the object cannot be scored.</p>")
        return "".join(parts)
    return "".join([*parts, _on_object(inspection, scores), inspected_source(inspection, "saliency")])


def _looks(
    inspection: Inspection, cells: Cells, *, epochs: bool = False, is_close: bool = False
) -> tuple[list[Look], str]:
    """Those that there are of the cells, and which have none, as HTML; BadData where none has."""
    looks = list(looks_of(inspection.study.folder, inspection.sample, cells, epochs=epochs, is_close=is_close))
    if not looks:
        raise BadData("no trained encoder of these cells is left")
    shown = {(look.technique, look.backbone) for look in looks}
    names = [f"{title(technique)} on {backbone}" for technique, backbone in cells if (technique, backbone) not in shown]
    return looks, f"<p>Without a trained encoder, so not shown: {html.text(', '.join(names))}.</p>" if names else ""


def _cases(look: Look, truth: np.ndarray) -> list[Case]:
    guess = look.scores.argmax(1)
    return [
        Case(int(row), bool(guess[row] == truth[row]), {method: look.map_of(method)[place] for method in METHODS})
        for place, row in enumerate(look.cases)
    ]


def _on_object(inspection: Inspection, scores: pd.DataFrame) -> str:
    study = inspection.study
    last = last_trained(scores)
    area = last[last.metric == "object_area"].value.mean()
    images = last[last.metric == "object_images"].value.max()
    note = (
        f"<h3>Is it on the object?</h3><p>{images:.0f} test images with a mask; the object covers {area:.0%} of an "
        "image on average. Objects are in the middle, and so is much saliency of any network: what is shown is the "
        "share on the image's own object less the share that the same maps have under the masks of other images of the "
        "class. Above zero: it follows the object; below: it avoids it for what is around. Bars are 95 % "
        "intervals over images.</p>"
    )
    figure = pictures.on_object(last, study.techniques, study.backbones)
    alt = "Share of saliency on the object above that under others' masks, by technique, backbone and method."
    return note + still(study, "on-object", figure, alt) + _on_object_by_class(inspection, scores, last)


def _on_object_by_class(inspection: Inspection, scores: pd.DataFrame, last: pd.DataFrame) -> str:
    """The paper's claim, birds by their surroundings and horses by the horse, as figures with intervals."""
    lines = []
    for technique, backbone in inspection.by_technique:
        trained, untrained = (
            rows[(rows.technique == technique) & (rows.backbone == backbone)].groupby("metric").value.mean()
            for rows in (last, scores[scores.epoch == 0])
        )
        for name in inspection.study.record["classes"]:
            if (found := _own_gain(trained, name)) is None:
                continue
            gain, half = found
            judged_by = "the object" if gain > half else "the surroundings" if gain < -half else "not told"
            before = _own_gain(untrained, name)
            lines.append(
                [title(technique), name, _with_half(*found), judged_by, _with_half(*before) if before else ABSENT]
            )
    header = ["technique", "class", "on the object, above others' masks", "judged by", "untrained"]
    return f"<h4>By class, |gradient|</h4>{html.table(header, lines)}"


def _own_gain(values: pd.Series, name: str) -> tuple[float, float] | None:
    """Of the gradient on a class of that name and half of its interval, from values by metric."""
    gain, half = (values.get(f"on_object_own_gain_gradient{part}/{name}") for part in ("", "_half"))
    return None if gain is None or half is None else (gain, half)


def _with_half(gain: float, half: float) -> str:
    return f"{signed(gain, 3)} ± {half:.3f}"


def neighbours(inspection: Inspection) -> str:
    """Of one image of each class, side by side for techniques, backbones and checkpoints; and retrieval as numbers."""
    technique, backbone = title(inspection.technique), inspection.backbone
    parts = [
        "<p>For one test image of every class, the nearest labelled images by Euclidean distance: green frames are of "
        "its class.</p>",
        _neighbours_by(
            inspection,
            "techniques",
            backbone,
            inspection.by_technique,
            lambda look: title(look.technique),
        ),
        _neighbours_by(
            inspection,
            "backbones",
            technique,
            inspection.by_backbone,
            lambda look: look.backbone,
        ),
        _neighbours_by(
            inspection,
            "checkpoints",
            f"{technique}, {backbone}",
            [(inspection.technique, inspection.backbone)],
            lambda look: f"epoch {look.epoch}",
            epochs=True,
        ),
        _retrieval(inspection),
    ]
    return "".join(parts) + inspected_source(inspection, "retrieval")


def _neighbours_by(
    inspection: Inspection, what: str, of: str, cells: Cells, name: Callable[[Look], str], *, epochs: bool = False
) -> str:
    """A group of columns for each of the cells, or for its first, middle and last checkpoint."""
    looks, gaps = _looks(inspection, cells, epochs=epochs)
    if epochs:
        looks = [looks[place] for place in sorted({0, len(looks) // 2, len(looks) - 1})]
    figure = pictures.neighbours(looks, [name(look) for look in looks], inspection.sample)
    alt = f"Nearest neighbours of one image of each class, side by side for the {what} ({of})."
    heading = f"<h3>By {what[:-1]} <small>({html.text(of)})</small></h3>"
    return heading + gaps + still(inspection.study, f"neighbours-{what}", figure, alt, kinds=PHOTOGRAPHS)


def _retrieval(inspection: Inspection) -> str:
    """Precision of the nearest neighbours, by cell and by class."""
    study, rows = inspection.study, inspection.of("retrieval")
    whole = matrix(study, rows[~rows.metric.str.contains("/")], RETRIEVAL)
    by_class = rows[rows.metric.str.startswith("precision_at_10/")]
    by_class = by_class.assign(name=by_class.metric.str.partition("/")[2])
    wide = by_class.groupby(["technique", "name"]).value.mean().unstack(0)
    wide = wide.reindex(columns=[technique for technique in study.techniques if technique in wide])
    table = html.table(
        ["class", *map(title, wide.columns)], [[name, *map(share, line)] for name, line in wide.iterrows()]
    )
    return f"<h3>Retrieval</h3>{whole}<h4>Precision at 10 by class, mean over backbones</h4>{table}"


def mistakes(inspection: Inspection) -> str:
    """Of the most accurate cell: confusions and the surest mistakes; and those that all techniques share."""
    looks, gaps = _looks(inspection, inspection.by_technique)
    best = next((look for look in looks if look.technique == inspection.technique), looks[0])
    name = f"{title(best.technique)} on {best.backbone}"
    alt = f"The surest mistakes of {name}, with class, guess and chance."
    figure = pictures.mistakes(best, inspection.sample, pictures.surest_mistakes(best, inspection.sample.test.labels))
    surest = f"<h3>Its surest mistakes</h3>{still(inspection.study, 'mistakes', figure, alt, kinds=PHOTOGRAPHS)}"
    shared = _shared_mistakes(inspection, looks, best)
    return _confusions(inspection, best, name) + gaps + surest + shared + source(inspection.study, "linear")


def _confusions(inspection: Inspection, look: Look, name: str) -> str:
    """By the last checkpoint of the first seed, on all test images."""
    study, rows, classes = inspection.study, inspection.study.rows, inspection.study.record["classes"]
    cell = (rows.technique == look.technique) & (rows.backbone == look.backbone)
    rows = rows[(rows.probe == "linear") & cell]
    rows = rows[rows.epoch == rows.epoch.max()]
    rows = rows[rows.seed == rows.seed.min()]
    alt = f"Confusion matrix of {name}: shares of each class taken for each other."
    picture = still(study, "confusion", pictures.confusion(rows, classes), alt)
    shares = pictures.confusion_shares(rows, classes)
    pairs = sorted(((shares[i, j], i, j) for i, j in np.ndindex(shares.shape) if i != j), reverse=True)
    lines = [[classes[i], classes[j], f"{value:.1%}"] for value, i, j in pairs[:PAIRS_SHOWN]]
    table = html.table(["class", "taken for", "share of the class"], lines)
    heading = f"<h3>Confusions of {html.text(name)}, all test images</h3>"
    return f"{heading}{picture}<h4>The most confused</h4>{table}"


def _shared_mistakes(inspection: Inspection, looks: Sequence[Look], best: Look) -> str:
    """Images that all techniques tell wrong, the surest first, and how many there would be by chance."""
    truth = inspection.sample.test.labels
    wrong = np.stack([look.scores.argmax(1) != truth for look in looks])
    expected = float(np.prod(wrong.mean(1))) * len(truth)
    shared = [int(row) for row in np.flatnonzero(wrong.all(0))]
    text = (
        f"<h3>Mistakes that all {len(looks)} techniques share</h3><p>{len(shared)} of {len(truth)} images; were they "
        f"made independently, {expected:.0f} would be.</p>"
    )
    if not shared:
        return text
    shared.sort(key=lambda row: -float(np.mean([look.scores[row].max() for look in looks])))
    figure = pictures.mistakes(best, inspection.sample, shared)
    alt = "Images that all techniques tell wrong, with the guess of the best."
    return text + still(inspection.study, "mistakes-shared", figure, alt, kinds=PHOTOGRAPHS)


def maps(inspection: Inspection) -> str:
    """All test images by t-SNE, an encoder at a time, an image where the pointer is; and all encoders, still."""
    cells = list(dict.fromkeys([*inspection.by_technique, *inspection.by_backbone]))
    looks, gaps = _looks(inspection, cells)
    names = [f"{title(look.technique)}, {look.backbone}" for look in looks]
    test = inspection.sample.test
    rows = np.arange(len(test))[:: max(1, len(test) // MAP_POINTS)]
    places = [_embedded(look.features[rows]) for look in looks]
    shown = test.take(rows)
    data = {
        "labels": np.asarray(shown.labels).tolist(),
        "classes": shown.classes,
        "colours": pictures.class_colours(len(shown.classes)),
        "thumbnails": [html.thumbnail(shown, row) for row in range(len(rows))],
        "maps": [{"name": name, "xy": np.round(place, 2).tolist()} for name, place in zip(names, places, strict=True)],
    }
    options = "".join(f"<option value={number}>{html.text(name)}</option>" for number, name in enumerate(names))
    alt = "Maps of the test images by t-SNE, coloured by class, a panel for each encoder."
    picture = still(inspection.study, "maps", pictures.maps(names, places, shown), alt)
    return (
        "<p>t-SNE of the features by cosine: near means alike to the network; the axes mean nothing. Point at a spot "
        f"for its image.</p>{gaps}<p class=screen><label>Encoder <select id=map-choice>{options}</select></label></p>"
        '<div class="plot screen" id=plot-map role=img aria-label="Map of the test images, coloured by class"></div>'
        f"<script type=application/json id=map-data>{html.script_json(data)}</script>"
        f"<details><summary>All maps, still</summary>{picture}</details>"
    )


def _embedded(features: np.ndarray) -> np.ndarray:
    """[N, D] -> [N, 2], t-SNE of the centred directions."""
    from sklearn.manifold import TSNE

    centred = features - features.mean(0)
    directions = centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-12)
    perplexity = min(30, len(features) / 4)
    return TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=MAP_STEPS).fit_transform(directions)
