"""Distil: a network learns to say what a stronger one says of the same view; without labels.

By similarity to a queue: Fang et al., SEED, ICLR 2021, https://arxiv.org/abs/2101.04731, section 3.2.
By regression of features: Navaneet et al., SimReg, BMVC 2021, https://arxiv.org/abs/2201.05131, section 3.
By relations in a batch: Tung, Mori, ICCV 2019, https://arxiv.org/abs/1907.09682, section 3.1.
"""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.errors import BadSetting
from lilliput.images import augment
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.system.distributed import gather
from lilliput.techniques import Technique, full_precision, mlp, pass_on

WAYS = ("queue", "regression", "relations")


class Distil(Technique):
    """The teacher is frozen, in eval mode; its features are standardised, since after a ReLU they all point one way."""

    queue: Tensor  # [K, teacher's dim] of unit length
    oldest: Tensor  # the place in the queue of what has been there the longest

    contrastive = "no"
    taught = True
    paper = Recipe("sgd", lr=0.03, batch=256, epochs=200, weight_decay=1e-4, decay_vectors=True)
    small = SMALL.replace(options={"queue": 1024, "sharp": 0.07, "blur": 0.0})

    def __init__(
        self,
        make_backbone,
        teacher: Any = None,
        *,
        by: str = "queue",
        hidden: Annotated[int, ">= 1"] = 2048,
        queue: Annotated[int, ">= 1"] = 65536,
        sharp: Annotated[float, "> 0"] = 0.01,
        temperature: Annotated[float, "> 0"] = 0.2,
        area: Annotated[float, "> 0, <= 1"] = 0.2,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
    ):
        super().__init__()
        if teacher is None:
            raise BadSetting("distil needs a teacher: --teacher with a run's folder, an encoder's file or timm/NAME")
        if by not in WAYS:
            raise BadSetting(f"by {by!r} is none of {', '.join(WAYS)}")
        self.encoder = self.build_encoder(make_backbone)
        self.head = mlp(self.encoder.dim, hidden, teacher.dim)
        self.teacher = teacher.requires_grad_(False).eval()
        self.standardise = nn.BatchNorm1d(teacher.dim, affine=False)
        self.by, self.sharp, self.temperature, self.area, self.blur = by, sharp, temperature, area, blur
        places = queue if by == "queue" else 0
        self.register_buffer("queue", F.normalize(torch.randn(places, teacher.dim), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def train(self, mode: bool = True):
        super().train(mode)
        self.teacher.eval()
        return self

    def views(self, images, rng):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        images = augment.grey_(images, rng, p=0.2)
        return (augment.blur_(images, rng, p=self.blur),)

    def forward(self, images):
        with torch.no_grad():
            self.said = F.normalize(self.standardise(self.teacher(images).float()), dim=1)
        own = self.head(self.encoder(images))
        self.measures["agreement"] = F.cosine_similarity(own.detach().float(), self.said).mean()
        if self.by == "regression":
            return apart(own, self.said)
        if self.by == "relations":
            said = gather(self.said)
            self.measures["loss_of_guessing"] = unlike(torch.eye(len(said), device=said.device), said)
            return unlike(gather(own), said)
        # what a student says that finds every image of the queue alike
        even = torch.zeros(len(own), 1 + len(self.queue), device=own.device)
        wanted = similar(self.said, self.said, self.queue, temperature=self.sharp)
        self.measures["loss_of_guessing"] = disagreement(even, wanted)
        return disagreement(similar(own, self.said, self.queue, temperature=self.temperature), wanted)

    def guessing(self, batch):
        return 2.0 if self.by == "regression" else None  # directions that have nothing to do with each other

    @torch.no_grad()
    def after_step(self, progress):
        pass_on(self.encoder, progress)  # and not the teacher, which learns no more
        if size := len(self.queue):
            newest = gather(self.said)[-size:]
            places = (self.oldest + torch.arange(len(newest), device=newest.device)) % size
            self.queue[places] = newest
            self.oldest.add_(len(newest)).remainder_(size)


@full_precision
def apart(own: Tensor, said: Tensor) -> Tensor:
    """[B, D], and of unit length -> mean squared distance of the directions, 0..4; SimReg's equation 1."""
    return (F.normalize(own, dim=1) - said).square().sum(1).mean()


@full_precision
def similar(features: Tensor, said: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """[B, D], [B, D], [K, D] -> cosines with what the teacher said of the same image, then with the queue, over T."""
    features = F.normalize(features, dim=1)
    return torch.cat([(features * said).sum(1, keepdim=True), features @ queue.T], dim=1) / temperature


@full_precision
def disagreement(logits: Tensor, wanted: Tensor) -> Tensor:
    """[B, 1 + K] twice -> mean of -sum softmax(wanted) log softmax(logits); SEED's equation 5."""
    return -(wanted.softmax(1) * logits.log_softmax(1)).sum(1).mean()


@full_precision
def unlike(own: Tensor, said: Tensor) -> Tensor:
    """[B, D] and [B, E] -> mean squared difference of the similarities within a batch, rows of unit length; Tung and
    Mori's equation 4, times B."""
    ours, theirs = (F.normalize(features @ features.T, dim=1) for features in (own, said))
    return (ours - theirs).square().sum(1).mean()
