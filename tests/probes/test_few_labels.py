"""Few labels: what a draw is taught by."""

import torch

from lilliput.probes import LabelledExam
from lilliput.probes.few_labels import UNCHOSEN, few_labels, taught
from lilliput.probes.linear import DECAYS, classifier
from lilliput.studies.judge import Pixels
from tests.conftest import CPU, rng


def weights_by(features, labels, decay):
    return classifier(features, labels, 2, decay=decay)[0].weights


def test_the_decay_is_that_which_tells_left_out_fifths_of_the_draw_best_and_one_image_of_a_class_chooses_none():
    labels = torch.arange(60) % 2
    for seed in range(4):
        features = torch.randn(60, 40, generator=rng(seed)) + 0.4 * labels[:, None] * (torch.arange(40) < 9)
        right = []
        for decay in DECAYS:
            fifths = [(torch.arange(60) // 2 % 5) == fifth for fifth in range(5)]
            told = (classifier(features[~f], labels[~f], 2, decay=decay)[0](features[f]).argmax(1) for f in fifths)
            right.append(sum((t == labels[f]).sum().item() for t, f in zip(told, fifths, strict=True)))
        best = DECAYS[right.index(max(right))]
        assert torch.equal(taught(features, labels, 2).weights, weights_by(features, labels, best))
    one_each = taught(features[:2], labels[:2], 2)
    assert torch.equal(one_each.weights, weights_by(features[:2], labels[:2], UNCHOSEN))


def test_held_out_labels_teach_a_draw_nothing(scenes):
    """The weight decay of ten images was once chosen by the whole held-out tenth."""
    accuracies = []
    for decay in (DECAYS[0], DECAYS[-1]):
        exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
        features, labels = exam.train_features, exam.train_labels.clone()  # the store's own stay
        classify = classifier(features[exam.fit], labels[exam.fit], len(exam.classes), decay=decay)[0]
        labels[exam.held_out] = classify(features[exam.held_out]).argmax(1)  # so that this decay tells them best
        exam.__dict__["train_labels"] = labels
        rows = dict(few_labels(exam))
        accuracies.append({name: value for name, value in rows.items() if name.startswith("accuracy")})
    assert accuracies[0] == accuracies[1]
