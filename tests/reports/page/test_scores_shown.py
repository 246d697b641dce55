"""Which scores the page shows as its answers, and that rows by scores of before are measured anew."""

from types import SimpleNamespace

import pandas as pd

from lilliput import catalog
from lilliput.probes import exams_for
from lilliput.reports.page import asked, examples, looks, probed
from lilliput.studies.judge import Pixels
from tests.conftest import CPU

CELL = {"technique": "byol", "backbone": "resnet18", "seed": 0, "judge": "j", "rows": 2}


def table(probe, *values):
    return pd.DataFrame([{**CELL, "probe": probe, "epoch": e, "metric": m, "value": v} for e, m, v in values])


def test_the_page_judges_by_the_masks_of_others_and_shows_the_untrained_network_beside():
    gain = "on_object{own}_gain_gradient{half}/bird"
    scores = table(
        "saliency",
        (0, gain.format(own="_own", half=""), 0.03),
        (0, gain.format(own="_own", half="_half"), 0.01),
        (9, gain.format(own="_own", half=""), 0.004),
        (9, gain.format(own="_own", half="_half"), 0.012),
        (9, gain.format(own="", half=""), 0.07),
        (9, gain.format(own="", half="_half"), 0.01),
    )
    study = SimpleNamespace(record={"classes": ["bird"]})
    inspection = SimpleNamespace(study=study, by_technique=[("byol", "resnet18")])
    shown = examples._on_object_by_class(inspection, scores, scores[scores.epoch == 9])
    assert "+0.004 ± 0.012" in shown and "not told" in shown and "+0.030 ± 0.010" in shown
    assert "the object<" not in shown and "0.07" not in shown


def test_the_page_shows_the_specific_pull_and_not_the_plain_one():
    specific = "colour_pull_specific"
    values = [("colour_pull", 0.41), ("colour_pull_half", 0.02), (specific, 0.03), (f"{specific}_half", 0.06)]
    by_pair = [(f"{name}/cat/dog", value) for name, value in values]
    rows = table("colour", *((9, name, value) for name, value in values + by_pair))
    study = SimpleNamespace(techniques=["byol"], backbones=["resnet18"])
    for shown in (probed._colour_pulls(study, rows), probed._colour_pulls_by_pair(rows)):
        assert "+0.03 ± 0.06" in shown and "0.41" not in shown


def test_an_inspection_by_a_score_of_before_is_made_again(monkeypatch, tmp_path):
    old = table("colour", (9, "colour_pull", 0.41), (9, "colour_pull_half", 0.02))
    new = old.assign(metric=["colour_pull", "colour_pull_specific_pairs"])
    other = table("layers", (9, "best_stage", 2.0), (9, "accuracy_best_stage", 0.5))
    for rows, done in ((old, {(9, "layers")}), (new, {(9, "layers"), (9, "colour")})):
        monkeypatch.setattr(looks.results, "read", lambda folder, rows=rows: pd.concat([rows, other]))
        assert looks._done(CELL, tmp_path, "j") == done


def test_what_an_older_lilliput_inspected_is_inspected_anew(monkeypatch, tmp_path):
    """Its layers, few labels and geometry are measured otherwise; its rows do not tell how many they were."""
    rows = table("layers", (9, "best_stage", 2.0), (9, "accuracy_best_stage", 0.5))
    for known, done in ((rows, {(9, "layers")}), (rows.assign(rows=float("nan")), set())):
        monkeypatch.setattr(looks.results, "read", lambda folder, rows=known: rows)
        assert looks._done(CELL, tmp_path, "j") == done


def test_a_probe_that_was_asked_for_is_shown_at_the_last_checkpoint_with_its_baselines():
    early, late = ((epoch, "ece", value) for epoch, value in ((5, 0.11), (9, 0.22)))
    pixels = table("calibration", (0, "ece", 0.33)).assign(technique="pixels", backbone="")
    rows = pd.concat([table("calibration", early, late), pixels])
    study = SimpleNamespace(rows=rows, techniques=["byol"], backbones=["resnet18"], folder=SimpleNamespace(name="s"))
    (section,) = asked.asked_sections(study)
    assert section.anchor == "calibration" and "0.220" in section.body and "0.330" in section.body
    assert "0.110" not in section.body


def test_the_columns_of_probes_that_are_asked_for_are_metrics_that_they_yield(scenes):
    for name, section in asked.SECTIONS.items():
        probe = catalog.probe(name)
        (exam,) = exams_for({name: probe}, Pixels(), scenes.train, scenes.test, plan=CPU).values()
        assert set(section.columns) <= dict(probe(exam)).keys()
