"""Nearest neighbours, against brute force."""

import torch

from lilliput.probes import LabelledExam
from lilliput.probes.knn import held_out_accuracy, knn, vote
from lilliput.studies.judge import Pixels
from tests.conftest import CPU, rng


def test_neighbours_are_those_of_brute_force_and_nearer_ones_break_ties():
    draw = rng(0)
    bank, queries = torch.randn(60, 5, generator=draw), torch.randn(30, 5, generator=draw)
    labels = torch.randint(0, 4, (60,), generator=draw)
    queries, bank = queries + 3, bank + 3  # far from zero
    guesses = vote(queries, bank, labels, 4, 7)
    for row, query in enumerate(queries):
        distances = {"euclidean": ((bank - query) ** 2).sum(1), "cosine": -torch.cosine_similarity(bank, query[None])}
        for name, distance in distances.items():
            votes = torch.bincount(labels[distance.argsort()[:7]], minlength=4)
            assert votes[guesses[name][row]] == votes.max()
    line = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert (
        vote(torch.zeros(1, 1), line, torch.tensor([1, 0, 0, 1]), 2, 2)["euclidean"].item() == 1
    )  # one each: the nearer


def test_the_held_out_accuracy_of_features_and_labels_is_the_probes(scenes):
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
    plain = held_out_accuracy(exam.train_features, exam.train_labels, exam.fit, exam.held_out, len(exam.classes))
    figures = dict(knn(exam))
    assert plain == {name: figures[f"held_out_accuracy_{name}"] for name in ("euclidean", "cosine")}
