"""Layers: the linear and the kNN probe on every stage of the network; the last is not always the best.

Layer-wise evaluation as in Zhang, Isola, Efros, ECCV 2016, section 3.2, on globally pooled maps.
"""

from typing import NamedTuple

from lilliput.probes import LabelledExam, accuracy
from lilliput.probes._features import extract_stages
from lilliput.probes.knn import vote
from lilliput.probes.linear import best_classifier, classifier

checkpoints = "last"


class Stage(NamedTuple):
    """The linear probe's accuracies on a stage's features, in an order in which the best is the largest."""

    held_out: float
    number: int
    test: float


def layers(exam: LabelledExam, *, neighbours: int = 20):
    """Accuracy by stage, on test and held out; the best stage by held-out images, its accuracy beside the last's."""
    features = [extract_stages(exam.encoder, images, plan=exam.plan) for images in (exam.train, exam.test)]
    labels, held_out_labels, count = exam.train_labels, exam.train_labels[exam.held_out], len(exam.classes)
    stages = []
    for number, (train, test) in enumerate(zip(*features, strict=True), start=1):
        held_out = train[exam.held_out]
        on_fit, decay, _ = best_classifier(train[exam.fit], labels[exam.fit], held_out, held_out_labels, count)
        classify, _ = classifier(train, labels, count, decay=decay)
        stage = Stage(
            held_out=accuracy(on_fit(held_out).argmax(1), held_out_labels),
            number=number,
            test=accuracy(classify(test).argmax(1), exam.test_labels),
        )
        stages.append(stage)
        yield f"linear_stage_{number}", stage.test
        yield f"held_out_linear_stage_{number}", stage.held_out
        votes = vote(test, train, labels, count, neighbours)["cosine"]
        yield f"knn_stage_{number}", accuracy(votes, exam.test_labels)
    best, last = max(stages), stages[-1]
    yield "best_stage", float(best.number)
    yield "accuracy_best_stage", best.test
    yield "held_out_accuracy_best_stage", best.held_out
    yield "accuracy_last_stage", last.test
    yield "held_out_accuracy_last_stage", last.held_out
