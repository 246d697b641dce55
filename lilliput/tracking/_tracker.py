"""The contract of a tracker: it opens a run of its own, or the one of that name again, and hears figures by epoch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = "lilliput"  # what runs are gathered under, where the tracker's own environment does not say


class About(NamedTuple):
    """What a tracker is told of a run before its figures."""

    name: str  # technique-backbone-seed
    folder: Path  # for the tracker's files, if it keeps them by run
    settings: dict[str, Any]  # run.json


class Tracker(ABC):
    """A run of somebody's tracker, from its making to `close`."""

    run: str  # by which the same one is opened again

    @abstractmethod
    def __init__(self, about: About, run: str | None):
        """`run`: the one to go on with; None begins one."""

    @abstractmethod
    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Finite figures of an epoch; those of judged encoders come later than the epochs that follow them."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more comes in this run, unless it is opened again."""
