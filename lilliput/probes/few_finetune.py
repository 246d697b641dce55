"""Few labels, fine-tuned: the whole network learns from a hundredth and from a tenth of the labelled images.

Chen et al. (SimCLR), ICML 2020, section 6 and appendix B.5: 60 epochs with 1 %, 30 with 10 %; means over draws.
"""

import numpy as np

from lilliput.probes import LabelledExam, accuracy
from lilliput.probes._features import extract, measure_batch_norm
from lilliput.probes._shares import Accuracies, over_draws
from lilliput.probes.finetune import adam, learn

checkpoints = "last"
EPOCHS = {1: 60, 10: 30}  # per cent of the images to fit -> epochs
STEPS = 100  # at least: a tenth of a thousand images is learned in no 30 epochs


def few_finetune(exam: LabelledExam, *, draws: int = 3, lr: float = 1e-3, batch: int = 32):
    """Accuracy for each share, its standard deviation over the draws, and how many images a draw has.

    A draw has of every class its share, at least one image. Nothing is chosen: the last state counts, with batch norm's
    statistics measured on the draw, for so few steps hardly move them.
    """
    held_out, label = exam.train.take(exam.held_out), exam.titled("few labels")

    def learned(percent: int, rows: np.ndarray) -> Accuracies:
        epochs = EPOCHS[percent]
        seen = max(epochs * len(rows), STEPS * min(batch, len(rows)))
        model = learn(exam, adam(epochs, lr, batch), images_seen=seen, rows=rows)
        measure_batch_norm(model, exam.train.take(rows), plan=exam.plan)
        on_test, on_held_out = (
            extract(model, images, plan=exam.plan, label=label).argmax(1) for images in (exam.test, held_out)
        )
        return Accuracies(accuracy(on_test, exam.test_labels), accuracy(on_held_out, exam.train_labels[exam.held_out]))

    yield from over_draws(exam, dict.fromkeys(EPOCHS, draws), learned)
