"""Few labels: the linear probe with a hundredth, a tenth and all of the labelled images.

As in Chen et al. (SimCLR), ICML 2020, section 6, on frozen features; means over draws of the labelled images.
"""

import numpy as np

from lilliput.probes import LabelledExam, accuracy
from lilliput.probes._shares import Accuracies, over_draws
from lilliput.probes.linear import best_classifier

checkpoints = "last"
DRAWS = {1: 5, 10: 3, 100: 1}  # per cent of the images to fit -> draws


def few_labels(exam: LabelledExam):
    """Accuracy for each share, its standard deviation over the draws, and how many images a draw has.

    A draw has of every class its share, at least one image. The weight decay is chosen on the held-out tenth.
    """
    features, labels = exam.train_features, exam.train_labels
    held_out, truth = features[exam.held_out], labels[exam.held_out]

    def learned(percent: int, rows: np.ndarray) -> Accuracies:
        classify, _ = best_classifier(features[rows], labels[rows], held_out, truth, len(exam.classes))
        test = accuracy(classify(exam.test_features).argmax(1), exam.test_labels)
        return Accuracies(test, accuracy(classify(held_out).argmax(1), truth))

    yield from over_draws(exam, DRAWS, learned)
