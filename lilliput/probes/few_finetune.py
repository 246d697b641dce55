"""Few labels, fine-tuned: the whole network learns from a hundredth and from a tenth of the labelled images.

Chen et al. (SimCLR), ICML 2020, section 6 and appendix B.5: 60 epochs with 1 %, 30 with 10 %; means over draws.
"""

import copy

import numpy as np
import torch

from lilliput.probes._exam import Exam
from lilliput.probes._features import extract, measure_batch_norm
from lilliput.probes.few_labels import draw, over_draws
from lilliput.probes.finetune import adam, learn

checkpoints = "last"
SHARES = {1: 60, 10: 30}  # per cent of the images to fit -> epochs
STEPS = 100  # at least: a tenth of a thousand images is learned in no 30 epochs


def few_finetune(exam: Exam, *, draws: int = 3, lr: float = 1e-3, batch: int = 32):
    """Accuracy for each share, its standard deviation over the draws, and how many images a draw has.

    A draw has of every class its share, at least one image. Nothing is chosen: the last state counts, with batch norm's
    statistics measured on the draw, for so few steps hardly move them.
    """
    held_out = exam.train.take(exam.held_out)
    rng = np.random.default_rng(exam.seed)
    labels = exam.train.labels[exam.fit]
    for percent, epochs in SHARES.items():
        found, told = [], []
        for _ in range(draws):
            few = copy.copy(exam)
            few.fit = exam.fit[draw(labels, percent / 100, rng)]
            seen = max(epochs * len(few.fit), STEPS * min(batch, len(few.fit)))
            model = learn(few, adam(epochs, lr, batch), images_seen=seen)
            measure_batch_norm(model, exam.train.take(few.fit), plan=exam.plan)
            found.append(_accuracy(model, exam, exam.test, exam.test_labels))
            told.append(_accuracy(model, exam, held_out, exam.train_labels[exam.held_out]))
        yield from over_draws(percent, found, told, len(few.fit))


def _accuracy(model, exam: Exam, images, labels: torch.Tensor) -> float:
    predicted = extract(model, images, plan=exam.plan, label=f"{exam.label} few labels".strip()).argmax(1)
    return (predicted == labels).float().mean().item()
