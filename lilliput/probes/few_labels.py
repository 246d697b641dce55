"""Few labels: the linear probe with a hundredth, a tenth and all of the labelled images.

As in Chen et al. (SimCLR), ICML 2020, section 6, on frozen features; means over draws of the labelled images.
"""

import numpy as np
import torch
from torch import Tensor

from lilliput.probes import LabelledExam, accuracy
from lilliput.probes._shares import Accuracies, over_draws
from lilliput.probes.linear import DECAYS, Classifier, classifier, classifiers

checkpoints = "last"
FOLDS = 5  # at most
UNCHOSEN = DECAYS[2]  # the weight decay where a class has one image
DRAWS = {1: 5, 10: 3, 100: 1}  # per cent of the images to fit -> draws


def few_labels(exam: LabelledExam):
    """Accuracy for each share, its standard deviation over the draws, and how many images a draw has.

    A draw has of every class its share, at least one image, and nothing else is learned from or chosen by.
    """
    features, labels = exam.train_features, exam.train_labels
    held_out, truth = features[exam.held_out], labels[exam.held_out]

    def learned(percent: int, rows: np.ndarray) -> Accuracies:
        classify = taught(features[rows], labels[rows], len(exam.classes))
        test = accuracy(classify(exam.test_features).argmax(1), exam.test_labels)
        return Accuracies(test, accuracy(classify(held_out).argmax(1), truth))

    yield from over_draws(exam, DRAWS, learned)


def taught(features: Tensor, labels: Tensor, classes: int) -> Classifier:
    """Of all these, [N, D] and [N], by the weight decay that tells parts of them best when the rest is learned from."""
    rank = (labels[:, None] == labels).tril(-1).sum(1)  # how many of its class stand before each
    present = labels.unique()
    folds = min(FOLDS, int(labels.bincount()[present].min()))
    right = torch.zeros(len(DECAYS))
    for fold in range(folds if folds > 1 else 0):
        own = rank % folds == fold
        candidates, _ = classifiers(features[~own], labels[~own], classes, DECAYS)
        right += torch.tensor([float((each(features[own]).argmax(1) == labels[own]).sum()) for each in candidates])
    decay = DECAYS[int(right.argmax())] if folds > 1 else UNCHOSEN
    return classifier(features, labels, classes, decay=decay)[0]
