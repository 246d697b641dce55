"""A recipe: optimiser, learning rate, batch, schedule, epochs; and what it says at every step.

LARS: You, Gitman, Ginsburg 2017, https://arxiv.org/abs/1708.03888, algorithm 1; its exclusion of biases and norms as in
SimCLR and BYOL. LAMB: You et al., ICLR 2020, https://arxiv.org/abs/1904.00962, algorithm 2. Cosine: Loshchilov, Hutter,
ICLR 2017, without restarts.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from torch import nn

from lilliput.errors import BadSetting

KNOWN = {"optimiser": ("sgd", "lars", "adamw", "lamb", "muon"), "schedule": ("cosine", "steps", "tenths", "constant")}
SMALLEST = {
    **dict.fromkeys(("lr", "vector_rate", "muon_rate", "muon_steps", "weight_decay", "warmup"), 0),
    "batch": 2,
    "epochs": 1,
}
SHARES = ("sgd_momentum", "muon_momentum", "beta2")  # 0 <= share < 1
# schedules that fall at once: the shares of training at which, and to which part of the rate
FALLS = {"steps": ((0.3, 0.6, 0.8), 0.2), "tenths": ((0.6, 0.8), 0.1)}


@dataclass(frozen=True)
class Recipe:
    """How a technique is trained. Learning rate per 256 images of a batch, scaled linearly, where `lr_per_256`."""

    optimiser: str  # sgd, lars, adamw, lamb, muon
    lr: Annotated[float, ">= 0"]
    batch: int
    epochs: int
    weight_decay: Annotated[float, ">= 0"]
    lr_per_256: bool = True
    sgd_momentum: Annotated[float, ">= 0, < 1"] = 0.9
    muon_momentum: Annotated[float, ">= 0, < 1"] = 0.6  # of convolutions, where all else has that of SGD
    muon_rate: Annotated[float, ">= 0"] = 1.0  # learning rate of what Muon steps, as a share of that of all else
    muon_steps: Annotated[int, ">= 0"] = 0  # of training, from which on that share falls by its root; 0: never
    nesterov: bool = False
    trust: Annotated[float, "> 0"] = 0.001  # of LARS: how far a layer moves per step, as a share of its own size
    beta2: Annotated[float, ">= 0, < 1"] = 0.95  # of AdamW and LAMB
    vector_rate: Annotated[float, ">= 0"] = 1.0  # learning rate of biases and norms, as a share of that of weights
    decay_vectors: bool = False  # whether biases and norms are decayed too
    # cosine, steps (x 0.2 at 30, 60 and 80 % of training), tenths (x 0.1 at 60 and 80 %) or constant
    schedule: str = "cosine"
    warmup: Annotated[float, ">= 0"] = 0.0  # epochs
    zero_residuals: bool = False  # whether residual blocks begin as what they are given, in weights drawn at random
    options: dict[str, Any] = field(default_factory=dict)  # of the technique, where they depart from its defaults
    rates: dict[str, float] = field(default_factory=dict)  # part of the technique -> multiple of the learning rate
    bare: dict[str, Any] = field(default_factory=dict)  # other settings for an encoder without any normalisation
    presets: dict[int, dict[str, Any]] = field(default_factory=dict)  # epochs -> what differs in so long a training

    def __post_init__(self) -> None:
        for name, known in KNOWN.items():
            if getattr(self, name) not in known:
                raise BadSetting(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        for name, smallest in SMALLEST.items():
            if not getattr(self, name) >= smallest:  # so that not-a-number is refused too
                raise BadSetting(f"{name} {getattr(self, name)} must be at least {smallest}")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise BadSetting(f"{name} {getattr(self, name)} must be a share, 0 <= {name} < 1")
        if self.warmup >= self.epochs:
            raise BadSetting(f"warmup {self.warmup} must be shorter than the training of {self.epochs} epochs")

    def replace(self, **changes) -> "Recipe":
        """A copy with other settings; None leaves a setting as it is."""
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})

    def override(self, *, epochs: int | None = None, **changes) -> "Recipe":
        """As `replace`, for every network: what is given here no longer differs for one without normalisation.

        What is not given suits so many epochs (`lasting`).
        """
        given = {name: value for name, value in changes.items() if value is not None}
        lasting = self.lasting(self.epochs if epochs is None else epochs, **given)
        bare = {} if "optimiser" in given else {name: v for name, v in lasting.bare.items() if name not in given}
        return lasting.replace(bare=bare)

    def lasting(self, epochs: int, **given) -> "Recipe":
        """A copy for so many epochs: by the preset of the nearest length, in ratio, and with what is `given`.

        The warm-up shortens in proportion where training is shorter than any of its presets, or than the recipe.
        """
        lengths = [*self.presets, self.epochs]
        nearest = min(lengths, key=lambda length: abs(math.log(max(epochs, 1) / length)))
        settings = {
            "warmup": round(self.warmup * min(1, epochs / min(lengths)), 6),
            **self.presets.get(nearest, {}),
            **given,
        }
        settings["options"] = {**self.options, **settings.get("options", {})}
        return self.replace(**settings, epochs=epochs, presets={})

    def suited(self, encoder: nn.Module) -> "Recipe":
        """The settings for this encoder."""
        return self.replace(bare={}) if normalises(encoder) else self.replace(**self.bare, bare={})

    @property
    def peak_rate(self) -> float:
        """The learning rate at its highest, for this batch."""
        return self.lr * self.batch / 256 if self.lr_per_256 else self.lr

    def muon_share(self, steps: int) -> float:
        """Of the learning rate, what Muon's weights take in a training of so many steps."""
        longer = steps / self.muon_steps if self.muon_steps else 1.0
        return self.muon_rate / math.sqrt(max(longer, 1.0))

    def rate(self, progress: float) -> float:
        """The learning rate when a share `progress` (0..1) of the steps is done."""
        warmup = self.warmup / self.epochs
        if progress < warmup:
            return self.peak_rate * progress / warmup
        if self.schedule in FALLS:
            shares, factor = FALLS[self.schedule]
            return self.peak_rate * factor ** sum(progress >= share for share in shares)
        if self.schedule == "constant":
            return self.peak_rate
        done = (progress - warmup) / (1 - warmup)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * done))


# What thousands of images and batches of tens call for, whatever the technique. Without batch norm nothing bounds what
# a step of plain SGD does, so LAMB takes its place there: it moves every layer by the same share of its size.
SMALL = Recipe(
    "muon",
    lr=0.03,
    muon_steps=150,
    lr_per_256=False,
    batch=32,
    epochs=50,
    weight_decay=5e-4,
    warmup=5,
    zero_residuals=True,
    bare={"optimiser": "lamb", "lr": 7.5e-4, "weight_decay": 0.01, "vector_rate": 0.1},
)

# For about 100,000 images of 96 pixels: what public benchmarks train a ResNet-18 with at 128 px, batch 256, 200 epochs
# (NOTEBOOK.md). LAMB's rate grows by the root of the batch, 8 times that of `SMALL`.
LARGE = Recipe(
    "sgd",
    lr=0.06,
    batch=256,
    epochs=200,
    weight_decay=5e-4,
    warmup=10,
    bare={**SMALL.bare, "lr": 2e-3, "lr_per_256": False},
)


def normalises(network: nn.Module) -> bool:
    """Whether any layer of it is a norm."""
    return any("norm" in type(layer).__name__.lower() for layer in network.modules())
