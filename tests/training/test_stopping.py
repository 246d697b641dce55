"""A run that ends before its last epoch, and the score by which it does."""

import pytest
import torch

from lilliput import api
from lilliput.errors import BadSetting
from lilliput.probes import effective_rank, extract, split
from lilliput.probes.knn import held_out_accuracy
from lilliput.system.plan import Plan
from lilliput.training import run as training_run
from lilliput.training.encoders import load_encoder, saved_encoders
from lilliput.training.record import read_log
from lilliput.training.stopping import Stopping, stopping_rule
from tests.conftest import NARROW, PLAN


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


@pytest.mark.parametrize("score", ["rank", "knn"])
def test_labels_to_train_on_are_enough_for_both_scores(score, scenes, tmp_path):
    """Without any test images."""
    data = scenes._replace(test=None)
    options = {**NARROW, "epochs": 2, "until_converged": 5, "score": score}
    out = api.pretrain("rotnet", "resnet18", data, tmp_path / "run", **options)
    encoders, plan = saved_encoders(out), Plan("cpu", **PLAN)
    for row in read_log(out):
        encoder = load_encoder(encoders[row["epoch"]])
        if score == "rank":
            expected = effective_rank(extract(encoder, data.pool, plan=plan, label=""))
        else:
            features, labels = extract(encoder, data.train, plan=plan, label=""), torch.as_tensor(data.train.labels)
            fit, held_out = split(data.train.labels)
            expected = held_out_accuracy(features, labels, fit, held_out, len(data.train.classes))["cosine"]
        assert row["score"] == pytest.approx(expected, rel=1e-3)
    assert len(read_log(out)) == 2


def test_the_score_is_that_of_neighbours_where_there_are_labels_and_the_rank_where_there_are_none(scenes):
    assert stopping_rule(scenes._replace(test=None), 5, None) == Stopping(5, "knn")
    assert stopping_rule(scenes._replace(train=None, test=None), 5, None) == Stopping(5, "rank")
    with pytest.raises(BadSetting, match="no labels for a kNN score; use --score rank"):
        stopping_rule(scenes._replace(train=None), 5, "knn")
