"""Weights that pretraining starts from: a file's, or random ones, their residual blocks as what they are given."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lilliput.backbones import begin_residuals_at_zero, read_weights, take_weights
from lilliput.errors import BadData, BadSetting
from lilliput.system.files import read_whole

IMAGENET = "imagenet"  # the name of each backbone's own, which its library publishes


@dataclass(frozen=True)
class Init:
    """A file of weights, by its content."""

    name: str  # as people may see it
    file: Path
    sha256: str


@dataclass(frozen=True)
class Teacher:
    """A network that another learns from."""

    weights: Init
    network: Callable[[], Any] = field(compare=False)  # images [B, 3, H, W] in 0..1 -> features [B, dim]
    spent: dict[str, float] = field(default_factory=dict, compare=False)  # by its own training, where that is known

    @property
    def as_option(self) -> dict[str, str]:
        """For a record."""
        return {"name": self.weights.name, "sha256": self.weights.sha256}


def as_settings(init: Init | None) -> dict[str, str | None]:
    """For a record: its name, and its digest, which is what it is known by."""
    return {"init": init.name if init else None, "init_digest": init.sha256 if init else None}


def init_from(file: Path, name: str) -> Init:
    """Of a file as it is now."""
    return Init(name, file.resolve(), hashlib.sha256(read_whole(file)).hexdigest())


def started_from(build: Callable[..., Any], init: Init) -> Callable[..., Any]:
    """A builder whose backbones have the weights of the file; BadData where these do not fit, BadSetting where they
    would fit by their shapes alone."""

    def started(**settings: Any) -> Any:
        backbone = build(**settings)
        if init.name == IMAGENET and backbone.name.endswith("without skips"):
            raise BadSetting(f"the weights of ImageNet were trained with skips, and this is {backbone.name}")
        take_weights(backbone, _weights(init), str(init.file))
        return backbone

    return started


def with_residuals_at_zero(build: Callable[..., Any]) -> Callable[..., Any]:
    """A builder whose backbones' residual blocks begin as what they are given."""

    def started(**settings: Any) -> Any:
        backbone = build(**settings)
        begin_residuals_at_zero(backbone)
        return backbone

    return started


@functools.lru_cache(2)
def _weights(init: Init) -> dict[str, Tensor]:
    if hashlib.sha256(read_whole(init.file)).hexdigest() != init.sha256:
        raise BadData(f"{init.file} has changed since the work began")
    return read_weights(init.file)
