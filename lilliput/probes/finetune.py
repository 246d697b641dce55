"""Fine-tuning: a copy of the whole network and a linear layer learn the labels; cross-entropy, Adam.

The study that we follow. `learn` also trains the baseline from scratch, by the recipe that it is given.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.build import make_optimiser, set_rate
from lilliput.optim.recipe import Recipe
from lilliput.probes import LabelledExam, score
from lilliput.probes._features import extract
from lilliput.system.progress import task
from lilliput.system.seeds import epoch_seed, seeded

checkpoints = "last"  # dear, so only the last checkpoint unless others are asked for


def finetune(exam: LabelledExam, *, epochs: int = 10, lr: float = 1e-3, batch: int = 64):
    """Train on nine tenths of the labelled images, report the last state on test and on the held-out tenth."""
    yield from grade(exam, learn(exam, adam(epochs, lr, batch), images_seen=epochs * len(exam.fit)))


def adam(epochs: int, lr: float, batch: int) -> Recipe:
    """With a tenth of warm-up, then a cosine."""
    return Recipe(
        "adamw", lr=lr, lr_per_256=False, batch=batch, epochs=epochs, weight_decay=0.0, beta2=0.999, warmup=epochs / 10
    )


def learn(exam: LabelledExam, recipe: Recipe, *, images_seen: int, rows: np.ndarray | None = None) -> nn.Sequential:
    """A copy of the encoder and a linear layer, trained together on so many labelled images (seen again and again).

    `rows` of the training images, where those are not exam.fit. The model is on the plan's device, in training mode.
    """
    rows = exam.fit if rows is None else rows
    recipe = recipe.suited(exam.encoder)
    with seeded(exam.seed):
        model = nn.Sequential(copy.deepcopy(exam.encoder), nn.Linear(exam.encoder.dim, len(exam.classes)))
    exam.plan.place(model).requires_grad_(True).train()
    batch = min(recipe.batch, len(rows))
    steps = max(1, images_seen // batch)
    optimiser = make_optimiser(recipe, model)
    scaler = torch.amp.GradScaler(torch.device(exam.plan.device).type, enabled=exam.plan.precision == "fp16")
    batches = _batches(exam, rows, batch)
    with task(exam.titled("labels"), steps) as advance:
        for step in range(steps):
            set_rate(optimiser, recipe.rate((step + 0.5) / steps), muon=recipe.muon_share(steps))
            images, labels = next(batches)
            with exam.plan.autocast():
                loss = F.cross_entropy(model(images).float(), labels)
            optimiser.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            advance(1)
    return model


def grade(exam: LabelledExam, model: nn.Module) -> Iterator[tuple[str, float]]:
    """The metrics of a trained classifier: images -> scores of the classes."""
    test = extract(model, exam.test, plan=exam.plan, label=exam.titled("test")).argmax(1)
    train = extract(model, exam.train, plan=exam.plan, label=exam.titled("held out")).argmax(1)
    yield from score(test, exam, train[exam.held_out])


def _batches(exam: LabelledExam, rows: np.ndarray, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled batches of these images, cropped and mirrored; randomness from (seed, epoch)."""
    epoch = 0
    while True:
        epoch += 1
        rng = exam.plan.generator(epoch_seed(exam.seed, epoch))
        order = torch.randperm(len(rows), generator=rng, device=exam.plan.device).cpu().numpy()
        for first in range(0, len(order) - batch + 1, batch):
            chosen = rows[order[first : first + batch]]
            images = augment.padded_crop(exam.train.load(chosen, exam.plan.device), rng)
            yield images, exam.train_labels[chosen]
