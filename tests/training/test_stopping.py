"""A run that ends before its last epoch, and the score by which it does."""

import pytest

from lilliput import api
from lilliput.training import run as training_run
from lilliput.training.record import read_log
from tests.conftest import NARROW


def test_a_run_stops_once_its_score_has_not_improved_and_says_why(scenes, tmp_path, monkeypatch):
    scores = iter([0.2, 0.3, 0.25, 0.3, 0.9])
    monkeypatch.setattr(training_run, "score_of", lambda *a: next(scores))
    options = {**NARROW, "epochs": 6, "until_converged": 2}
    out = api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **options)
    rows = read_log(out)
    assert len(rows) == 4 and "0.3 has not improved for 2 checkpoints" in rows[-1]["stopped"]
    api.pretrain("rotnet", "resnet18", scenes, out, **options)
    assert len(read_log(out)) == 4


@pytest.mark.parametrize("score", ["rank", "knn"])
def test_both_scores_can_be_computed(score, scenes, tmp_path):
    options = {**NARROW, "epochs": 2, "until_converged": 5, "score": score}
    out = api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **options)
    scores = [row["score"] for row in read_log(out)]
    assert len(scores) == 2 and all(0 <= value <= (1 if score == "knn" else 128) for value in scores)
