"""What skips did: shown of twins alone, with differences that can be worked by hand."""

import re
from pathlib import Path

import pandas as pd
import pytest

from lilliput.reports.page import skips
from lilliput.reports.page.inspected import MAKERS
from lilliput.reports.page.section import Inspection, Study
from lilliput.studies.statistics import accuracies, difference
from tests.reports.conftest import rows_of

IMAGES = 8000
LINEAR = {
    ("simclr", "resnet18"): ([0.3, 0.5, 0.6], [0.3, 0.7, 0.6]),  # the best on test is 0.6, the chosen is 0.5
    ("simclr", "resnet18_plain"): ([0.3, 0.4, 0.45], [0.3, 0.5, 0.6]),
    ("random_init", "resnet18"): ([0.31], [0.31]),
    ("random_init", "resnet18_plain"): ([0.28], [0.28]),
    ("byol", "resnet18"): ([0.2, 0.3, 0.4], [0.2, 0.3, 0.4]),  # without a twin
}
STAGES = {"resnet18": (0.31, 0.44, 0.58), "resnet18_plain": (0.33, 0.44, 0.41)}


def study_of(*backbones):
    rows = [
        row
        for (technique, backbone), (test, held_out) in LINEAR.items()
        for row in rows_of(technique, backbone, test, held_out=held_out)
    ]
    techniques = ["byol", "simclr"]
    return Study(
        Path("study"), pd.DataFrame(rows).assign(mistakes=""), {"test_images": IMAGES}, techniques, list(backbones)
    )


def inspection_of(study):
    rows = [
        row
        for backbone, values in STAGES.items()
        for number, value in enumerate(values, start=1)
        for row in rows_of(
            "simclr", backbone, [0.1, value], epochs=(5, 10), probe="layers", metric=f"linear_stage_{number}"
        )
    ]
    return Inspection(study, None, pd.DataFrame(rows), "simclr", "resnet18")


def cells(page):
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    return [row for row in rows if row]


@pytest.mark.parametrize(
    ("backbones", "shown"),
    [
        (("resnet18", "resnet18_plain"), [("resnet18", "resnet18_plain")]),
        (("mobilenet_v2", "mobilenet_v2_plain", "resnet18_plain"), [("mobilenet_v2", "mobilenet_v2_plain")]),
        (("resnet18", "mobilenet_v2_plain"), []),
    ],
)
def test_the_section_is_of_twins_of_which_both_are_there(backbones, shown):
    (maker,) = [maker for maker in MAKERS if maker.anchor == "skips"]
    assert maker.concerns(study_of(*backbones)) == shown
    assert all(other.concerns(study_of("resnet18")) for other in MAKERS if other is not maker)


def test_accuracies_with_and_without_and_their_difference():
    study = study_of("resnet18", "resnet18_plain")
    accurate, chance, *_ = cells(skips.skips(inspection_of(study)))
    gap = difference(*accuracies([[0.5], [0.45]], IMAGES))
    assert accurate[:4] == ["SimCLR", "resnet18", ".500", ".450"]
    assert accurate[4] == f"+0.050 ± {gap.half:.3f}".replace("± 0", "± ")
    assert accurate[5:] == [".600", ".450", "+0.150"]
    assert chance[:4] == ["random init", "resnet18", ".310", ".280"] and chance[7] == "+0.030"


def test_a_cell_without_its_twin_is_in_no_line():
    page = skips.skips(inspection_of(study_of("resnet18", "resnet18_plain")))
    accurate, stages = page.split("<h3>By stage</h3>")
    assert "BYOL" not in accurate and ["BYOL", "resnet18", "–", "–", "–"] in cells(stages)


def test_stages_are_those_of_the_last_checkpoint():
    *_, line = cells(skips.skips(inspection_of(study_of("resnet18", "resnet18_plain"))))
    assert line[2:] == [".310 / .330 (-0.020)", ".440 / .440 (+0.000)", ".580 / .410 (+0.170)"]
