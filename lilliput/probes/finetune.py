"""Fine-tuning: a copy of the whole network and a linear layer learn the labels; cross-entropy, Adam.

The study that we follow. `learn` also trains the baseline from scratch, by the recipe that it is given.
"""

import copy
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.build import make_optimiser, set_rate
from lilliput.optim.recipe import Recipe
from lilliput.probes import LabelledExam, score
from lilliput.probes._features import extract
from lilliput.system import signals
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
    """The model of a `Learning` that is over; Stopped where a signal asked for that."""
    learning = Learning(exam, recipe, images_seen=images_seen, rows=rows)
    with closing(learning.steps()) as steps:
        for _ in steps:
            signals.check(f"{exam.titled('labels')}: stopped")
    return learning.model


class Learning:
    """A copy of the encoder and a linear layer, trained together on so many labelled images (seen again and again).

    `rows` of the training images, where those are not exam.fit. The model is on the plan's device, in training mode.
    """

    def __init__(self, exam: LabelledExam, recipe: Recipe, *, images_seen: int, rows: np.ndarray | None = None):
        self.exam, self.rows, self.recipe = exam, exam.fit if rows is None else rows, recipe.suited(exam.encoder)
        with seeded(exam.seed):
            self.model = nn.Sequential(copy.deepcopy(exam.encoder), nn.Linear(exam.encoder.dim, len(exam.classes)))
        exam.plan.place(self.model).requires_grad_(True).train()
        self.batch = min(self.recipe.batch, len(self.rows))
        self.whole, self.done = max(1, images_seen // self.batch), 0  # steps
        self.rng = exam.plan.generator(exam.seed)  # of the pass over the images that is under way
        self.optimiser = make_optimiser(self.recipe, self.model)
        fp16 = exam.plan.precision == "fp16"
        self.scaler = torch.amp.GradScaler(torch.device(exam.plan.device).type, enabled=fp16)

    def steps(self) -> Generator[int, None, None]:
        """Take those that are not done; after each, how many are."""
        batches, muon = self._batches(), self.recipe.muon_share(self.whole)
        with task(self.exam.titled("labels"), self.whole) as advance:
            advance(self.done)
            while self.done < self.whole:
                set_rate(self.optimiser, self.recipe.rate((self.done + 0.5) / self.whole), muon=muon)
                images, labels = next(batches)
                with self.exam.plan.autocast():
                    loss = F.cross_entropy(self.model(images).float(), labels)
                self.optimiser.zero_grad()
                self.scaler.scale(loss).backward()
                self.scaler.step(self.optimiser)
                self.scaler.update()
                self.done += 1
                advance(1)
                yield self.done

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless shuffled batches, cropped and mirrored, from that of the next step on; randomness from (seed, epoch).

        Within an epoch `rng` says how that is drawn.
        """
        exam, steps = self.exam, len(self.rows) // self.batch
        while True:
            epoch, first = divmod(self.done, steps)
            midway = self.rng.get_state()
            self.rng = exam.plan.generator(epoch_seed(exam.seed, epoch + 1))
            order = torch.randperm(len(self.rows), generator=self.rng, device=exam.plan.device).cpu().numpy()
            if first:
                self.rng.set_state(midway)
            for step in range(first, steps):
                chosen = self.rows[order[step * self.batch : (step + 1) * self.batch]]
                images = augment.padded_crop(exam.train.load(chosen, exam.plan.device), self.rng)
                yield images, exam.train_labels[chosen]


def grade(exam: LabelledExam, model: nn.Module) -> Iterator[tuple[str, float]]:
    """The metrics of a trained classifier: images -> scores of the classes."""
    test = extract(model, exam.test, plan=exam.plan, label=exam.titled("test")).argmax(1)
    train = extract(model, exam.train, plan=exam.plan, label=exam.titled("held out")).argmax(1)
    yield from score(test, exam, train[exam.held_out])
