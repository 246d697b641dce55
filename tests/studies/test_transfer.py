"""Transfer, on a finished run and two labelled folders."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest

from lilliput import api, cli
from lilliput.errors import BadData, BadSetting
from lilliput.probes import LabelledExam
from lilliput.probes.linear import fitted
from lilliput.studies import results
from lilliput.studies.judge import Judge
from lilliput.studies.transfer import tabled
from lilliput.training.encoders import load_encoder, saved_encoders
from tests.conftest import CPU, labelled_folder


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy, that may be judged."""
    return shutil.copytree(finished_run, tmp_path / "run")


def by_class(encoder, data):
    """The mean of the classes' accuracies by the linear probe, written plainly."""
    exam = LabelledExam(encoder, data.train, data.test, plan=CPU)
    right = exam.once(fitted).classify(exam.test_features).argmax(1) == exam.test_labels
    return np.mean([right[exam.test_labels == number].float().mean() for number in range(len(data.test.classes))])


def test_a_run_is_judged_on_each_data_set_with_its_start_and_pixels_beside(run, scenes, tmp_path):
    table = api.transfer(run, [scenes, labelled_folder(tmp_path)])
    encoders = saved_encoders(run)
    assert list(table.columns) == ["classes", "test images", "simclr resnet18, epoch 3", "random init", "pixels"]
    assert table["classes"].tolist()[:2] == [10, 2] and table["test images"].tolist()[:2] == [100, 40]
    of_scenes = table.loc["scenes"]
    for title, epoch in (("simclr resnet18, epoch 3", 3), ("random init", 0)):
        assert of_scenes[title] == pytest.approx(by_class(load_encoder(encoders[epoch]), scenes), abs=0.011)
    assert table["pixels"].iloc[1] == 1  # dark and light are told by any pixel
    for title in table.columns[2:]:
        assert table.loc["mean", title] == pytest.approx(table[title].iloc[:2].mean())


def test_what_was_judged_is_not_judged_again_and_a_further_data_set_joins_it(run, scenes, tmp_path, monkeypatch):
    first = api.transfer(run, scenes)
    judged = []
    rows = Judge.rows
    monkeypatch.setattr(Judge, "rows", lambda self, *a, **n: judged.append(self.name) or rows(self, *a, **n))
    both = api.transfer(run, [scenes, labelled_folder(tmp_path)])
    assert len(judged) == 3 and "scenes" not in judged
    pd.testing.assert_series_equal(both.loc["scenes"], first.loc["scenes"])
    assert set(results.read(run / "transfer").technique) == {"simclr", "pixels"}
    assert not (run / "results.csv").exists()


def test_a_class_with_few_images_counts_as_much_as_one_with_many():
    same = {"judge": "j", "technique": "t", "epoch": 5}
    values = {"accuracy": 0.9, "accuracy/many": 1.0, "accuracy/few": 0.0, "confusion/many/many": 90.0}
    values["confusion/few/many"] = 10.0
    rows = pd.DataFrame([{**same, "metric": metric, "value": value} for metric, value in values.items()])
    pixels = rows.assign(technique="pixels", epoch=0)
    table = tabled(pd.concat([rows, pixels]), ["j", "j"], {("t", 5): "trained", ("t", 0): "start"})
    assert table.loc["j"].tolist()[:3] == [2, 100, 0.5] and math.isnan(table.loc["j", "start"])
    assert table.index.tolist() == ["j", "mean"]


def test_the_command_prints_the_table_and_says_where_the_rows_are(run, tmp_path, capsys):
    assert cli.main(["transfer", str(run), "--to", str(labelled_folder(tmp_path)), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    header, line, mean = said.splitlines()[1:4]
    assert "random init" in header and line.startswith("folder-labelled") and line.endswith("1.000")
    assert mean.startswith("mean") and mean.endswith("1.000")
    assert str(run / "transfer" / "results.csv") in said


def test_what_cannot_be_judged_is_refused_before_any_work(run, tmp_path):
    with pytest.raises(BadSetting, match="to is empty"):
        api.transfer(run, [])
    with pytest.raises(BadData, match="not the folder of a run"):
        api.transfer(tmp_path, ["scenes"])
    flat = labelled_folder(tmp_path) / "train" / "dark"
    with pytest.raises(BadData, match="no labels to judge by"):
        api.transfer(run, [flat])
    assert not (run / "transfer").exists()
