"""The section of object detection, where there is one."""

from types import SimpleNamespace

import pytest
from PIL import Image

from lilliput.reports.page.detected import detected_sections
from lilliput.studies import results
from tests.reports.conftest import NASTY


@pytest.fixture
def study(tmp_path):
    return SimpleNamespace(folder=tmp_path, techniques=["byol", NASTY], backbones=["resnet18"])


def rows(technique, mode, ap):
    same = {"technique": technique, "backbone": "resnet18", "seed": 0, "epoch": 5, "probe": f"detection_{mode}"}
    return [{**same, "metric": metric, "value": value, "rows": 2} for metric, value in (("ap", ap), ("ap50", 2 * ap))]


def test_there_is_no_section_where_nothing_was_detected(study):
    assert detected_sections(study) == []


def test_a_table_for_each_mode_and_the_picture_of_the_best(study):
    found = study.folder / "detection"
    results.append(
        found, [*rows("byol", "tuned", 0.25), *rows("random_init", "tuned", 0.125), *rows(NASTY, "frozen", 0.1)]
    )
    Image.new("RGB", (40, 20)).save(found / "byol-resnet18-0-005-tuned.png")
    (section,) = detected_sections(study)
    tables = section.body.split("<h4>")
    assert "stays as it is" in tables[1] and "learns too" in tables[2]
    assert all(number in tables[2] and number not in tables[1] for number in (".250", ".500", ".125"))
    assert section.body.count("data:image/webp") == 1 and "<img src=x" not in section.body
