"""A study's second round: its backbones learn from one of its own cells."""

import shutil

import pytest

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.studies import results
from lilliput.training.record import read_run
from tests.conftest import PLAN

GRID = {"techniques": ["simclr", "rotnet"], "backbones": ["shufflenet_v2"], "baselines": [], "seeds": [0]}
SETTINGS = {**GRID, "epochs": 2, "every": 1, "batch": 16, "plan": PLAN, "workers": 1}


@pytest.fixture(scope="module")
def taught(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("second") / "study"
    api.study(scenes, out, **SETTINGS, distil_from="best", by="regression")
    return out


def test_the_best_cell_by_held_out_labels_teaches(taught):
    rows = results.read(taught)
    rows = rows[(rows.metric == "held_out_accuracy") & (rows.probe == "linear") & (rows.epoch > 0)]
    first = rows[rows.technique != "distil"]
    best = first.loc[first.value.idxmax()]
    file = results.teacher_among(taught, "best")
    assert (file.parent.name, file.name) == (
        f"{best.technique}-shufflenet_v2-0",
        f"encoder_{best.epoch:03d}.safetensors",
    )
    run = read_run(taught / "cells" / "distil-shufflenet_v2-0")
    assert (
        run["technique_options"]["teacher"]["name"].endswith(file.name)
        and run["technique_options"]["by"] == "regression"
    )


def test_its_rows_count_the_teachers_seconds(taught):
    rows = results.read(taught)
    seconds = rows.groupby(["technique", "epoch"]).seconds.max()
    file = results.teacher_among(taught, "best")
    technique, epoch = file.parent.name.split("-")[0], int(file.stem.removeprefix("encoder_"))
    assert seconds["distil", 2] > seconds[technique, epoch] > 0


def test_again_it_has_nothing_to_do(taught, scenes):
    before = (taught / "results.csv").read_bytes()
    api.study(scenes, taught, **SETTINGS, distil_from="best", by="regression")
    assert (taught / "results.csv").read_bytes() == before


def test_other_judges_have_no_say_in_who_teaches(taught, tmp_path):
    out = shutil.copytree(taught, tmp_path / "s", ignore=shutil.ignore_patterns("inspect"))
    best = results.teacher_among(out, "best").parent.name
    rows = results.read(out)
    others = rows[(rows.metric == "held_out_accuracy") & (rows.technique != best.split("-")[0]) & (rows.epoch > 0)]
    results.append(out, others.assign(judge="another", value=1.0).to_dict("records"))
    assert results.teacher_among(out, "best").parent.name == best


def test_a_cell_teaches_by_its_name(taught):
    assert results.teacher_among(taught, "rotnet-shufflenet_v2-0").parent.name == "rotnet-shufflenet_v2-0"
    with pytest.raises(BadData, match="no judged cell to distil from by the name 'byol"):
        results.teacher_among(taught, "byol-shufflenet_v2-0")


def test_without_the_linear_probe_it_is_refused_before_any_work(scenes, tmp_path):
    with pytest.raises(BadSetting, match="add linear to --probes"):
        api.study(scenes, tmp_path / "s", **SETTINGS, probes=["knn"], distil_from="best")
    assert not (tmp_path / "s").exists()
