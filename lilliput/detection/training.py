"""A detector learns from images with boxes, and finds boxes in others."""

import copy
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.ssd import SSD

from lilliput.detection.boxes import BoxedImages
from lilliput.detection.model import detector
from lilliput.detection.views import batches
from lilliput.optim.build import make_optimiser, set_rate
from lilliput.optim.recipe import Recipe
from lilliput.system.modes import evaluating
from lilliput.system.plan import Plan
from lilliput.system.progress import task
from lilliput.system.seeds import seeded

JUDGED = 32  # images at a time
LARGEST = 10.0  # norm of a gradient, beyond which it is cut to that


def recipe(*, steps: int, batch: int, lr: float) -> Recipe:
    """AdamW with a tenth of warm-up, then a cosine; its epochs are steps."""
    settings: dict[str, Any] = {"lr_per_256": False, "weight_decay": 1e-4, "beta2": 0.999, "warmup": steps / 10}
    return Recipe("adamw", lr=lr, batch=batch, epochs=steps, **settings)


def learn(
    encoder: Any, images: BoxedImages, how: Recipe, *, tuned: bool, seed: int, plan: Plan, label: str = "boxes"
) -> SSD:
    """A detector on a copy of the encoder, frozen or `tuned` with the rest, trained for how.epochs steps."""
    with seeded(seed):
        model = detector(copy.deepcopy(encoder), len(images.classes), images.image_size, tuned=tuned, plan=plan)
    plan.place(model).train()
    optimiser = make_optimiser(how, model)
    scaler = torch.amp.GradScaler(torch.device(plan.device).type, enabled=plan.precision == "fp16")
    source = batches(images, min(how.batch, len(images)), seed=seed, plan=plan)
    with task(label, how.epochs) as advance:
        for step in range(how.epochs):
            set_rate(optimiser, how.rate((step + 0.5) / how.epochs))
            views, targets = next(source)
            loss = sum(model(list(views), targets).values())
            optimiser.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST)
            scaler.step(optimiser)
            scaler.update()
            advance(1)
    return model


@torch.inference_mode()
def found_in(model: SSD, images: BoxedImages, *, plan: Plan, label: str = "test") -> list[dict[str, Tensor]]:
    """Of every image: boxes [n, 4] in its pixels at the size of `images`, labels [n], scores [n], the surest first."""
    found = []
    with evaluating(model), task(label, len(images)) as advance:
        for first in range(0, len(images), JUDGED):
            views = images.load(slice(first, first + JUDGED), plan.device)
            found += model(list(views))
            advance(len(views))
    return found
