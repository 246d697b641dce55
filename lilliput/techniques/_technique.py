"""Technique: what every pretext technique promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

from lilliput.optim.recipe import LARGE, Recipe

BackboneBuilder = Callable[..., Any]  # (*, channels=3, width=1.0) -> Backbone


class Technique(nn.Module, ABC):
    """Built as X(make_backbone, *, options). Its state_dict holds all that a resumed run needs."""

    paper: ClassVar[Recipe]  # the settings its authors published
    small: ClassVar[Recipe]  # for thousands of images, batches of tens, one machine
    large: ClassVar[Recipe] = LARGE  # for about 100,000 images at 96 px, batches of hundreds
    contrastive: ClassVar[str]  # "yes", "no" or "joint-embedding", for the table
    pieces: ClassVar[bool] = (
        False  # whether the encoder sees pieces of images alone, whose means and variances are others
    )
    taught: ClassVar[bool] = False  # whether it is built with a `teacher`, a frozen network, beside the backbone
    encoder: Any  # images [B, 3, H, W] in 0..1 -> features [B, dim]: what is saved and judged

    def __init__(self) -> None:
        super().__init__()
        self.measures: dict[str, Tensor] = {}  # of the last batch, for the log: name -> scalar

    @staticmethod
    def build_encoder(make_backbone: BackboneBuilder) -> Any:
        """The encoder alone, as a saved one is rebuilt."""
        return make_backbone()

    @abstractmethod
    def views(self, images: Tensor, rng: Generator) -> tuple[Tensor, ...]:
        """[B, 3, H, W] in 0..1 -> what `forward` takes. Holds all of the technique's randomness."""

    @abstractmethod
    def forward(self, *views: Any, **_: Any) -> Tensor:
        """The loss of the views that `views` gave, a scalar; its gradient reaches every parameter of the encoder."""

    def guessing(self, batch: int) -> float | None:
        """The loss of a network that tells nothing apart, in a batch of so many images; None where the images decide,
        which then is the measure `loss_of_guessing`."""
        return None

    def after_step(self, progress: float) -> None:
        """Move targets and queues; `progress` is the share of training done, 0..1.

        Here it is passed on to all parts that have an `after_step` of their own (masks, condensing), those of frozen
        copies too, so that a copy's masks are its network's.
        """
        for part in self.children():
            pass_on(part, progress)


def pass_on(network: nn.Module, progress: float) -> None:
    """A step is over: tell all parts of a network that have an `after_step` of their own."""
    for part in network.modules():
        if callable(own := getattr(part, "after_step", None)):
            own(progress)
