"""Studies and runs as objects that a notebook shows."""

import pytest

from lilliput import api
from lilliput.errors import BadData
from lilliput.training.record import read_log

PNG = b"\x89PNG\r\n"


def test_a_study_shows_its_table_and_its_pictures(rotnet_study):
    shown = api.show(rotnet_study)
    html = shown._repr_html_()
    assert shown.pictures["figure1"]._repr_png_().startswith(PNG)
    assert html.count("<table") == 1 and html.count("data:image/png;base64,") == len(shown.pictures) >= 2
    assert {"rotnet", "random_init"} <= set(shown.table.index) and list(shown.table.columns) == ["", "shufflenet_v2"]
    value = shown.table.loc["rotnet", "shufflenet_v2"]
    own = shown.rows.query("technique == 'rotnet' and probe == 'linear' and metric == 'accuracy'")
    assert value in set(own["value"]) and f"{value:.3f}" in html


def test_a_run_shows_its_log(finished_run):
    shown = api.show(finished_run)
    assert shown.table["loss"].tolist() == [read_log(finished_run)[-1]["loss"]]
    assert list(shown.rows.index) == [1, 2, 3] and shown.pictures["log"]._repr_png_().startswith(PNG)
    assert finished_run.name in shown._repr_html_()


def test_a_folder_of_neither_is_told(tmp_path):
    with pytest.raises(BadData, match="holds neither"):
        api.show(tmp_path)
