"""Layers: the linear and the kNN probe on every stage of the network; the last is not always the best.

Layer-wise evaluation as in Zhang, Isola, Efros, ECCV 2016, section 3.2, on globally pooled maps.
"""

from lilliput.probes._exam import Exam
from lilliput.probes._features import extract_stages
from lilliput.probes.knn import vote
from lilliput.probes.linear import best_classifier

checkpoints = "last"


def layers(exam: Exam, *, neighbours: int = 20):
    """Accuracy by stage, on test and held out; the best stage by held-out images, its accuracy beside the last's."""
    stages = [extract_stages(exam.encoder, part, plan=exam.plan, label="stages") for part in (exam.train, exam.test)]
    labels, held_labels, count = exam.train_labels[exam.fit], exam.train_labels[exam.held_out], len(exam.classes)
    found = []
    for number, (train, test) in enumerate(zip(*stages, strict=True), start=1):
        fitted, held_out = train[exam.fit], train[exam.held_out]
        classify, _ = best_classifier(fitted, labels, held_out, held_labels, count)
        linear = (classify(test).argmax(1) == exam.test_labels).float().mean().item()
        told = (classify(held_out).argmax(1) == held_labels).float().mean().item()
        near = vote(test, train, exam.train_labels, count, neighbours)["cosine"]
        found.append((told, linear, number))
        yield f"linear_stage_{number}", linear
        yield f"held_out_linear_stage_{number}", told
        yield f"knn_stage_{number}", (near == exam.test_labels).float().mean().item()
    told, best, number = max(found, key=lambda one: (one[0], one[2]))
    yield "best_stage", float(number)
    yield "accuracy_best_stage", best
    yield "held_out_accuracy_best_stage", told
    yield "accuracy_last_stage", found[-1][1]
    yield "held_out_accuracy_last_stage", found[-1][0]
