"""The contract of an engine: it does a list of jobs somewhere, each once, and tells what becomes of them."""

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from lilliput.errors import BadSetting, LilliputError
from lilliput.system import signals
from lilliput.system.locks import InUse
from lilliput.system.progress import Board, say

Work = Callable[[Any], bool]  # of the workshop that its worker keeps; says whether there was anything to do
Jobs = Sequence[tuple[str, Work]]  # each with its name
DEATHS = 4  # of workers on one job, and it is given up


class Started(NamedTuple):
    name: str


class Finished(NamedTuple):
    name: str
    worked: bool
    seconds: float
    error: str | None = None  # one line
    details: str = ""
    stopped: bool = False  # as it was asked to; the same job goes on from there
    elsewhere: bool = False  # another process has it in work


Event = Started | Finished


class Engine(ABC):
    """Where jobs run, within a block in which it is `opened`."""

    workers: int  # jobs at once, as far as is known
    is_here: bool  # on this machine, whose cores the workers share

    @abstractmethod
    def run(self, jobs: Jobs, make_shop: Callable[[], Any], board: Board, folder: Path) -> Iterator[Event]:
        """The jobs, in order, as many at once as there is room for; events come as they happen.

        Each worker makes a workshop of its own, once. A job whose worker dies goes to another, which goes on from what
        is saved, until that has happened DEATHS times. A signal that asks to stop lets what is in hand be saved.
        `folder` is the study's, in which an engine may keep files of its own.
        """

    def opened(self) -> AbstractContextManager[Self]:
        """Within the block what it needs is there; BadSetting where that cannot be."""
        return nullcontext(self)


def done(name: str, job: Work, shop: Any) -> Finished:
    """Do the job; what it raises is told, and must not cost the others."""
    began = time.perf_counter()
    worked, line, details = True, None, ""
    try:
        worked = job(shop)
    except signals.Stopped as stop:
        say(str(stop))
        return Finished(name, True, time.perf_counter() - began, stopped=True)
    except InUse:
        return Finished(name, False, time.perf_counter() - began, elsewhere=True)
    except Exception as error:
        line = " ".join(str(error).split()) or type(error).__name__
        details = "" if isinstance(error, LilliputError) else traceback.format_exc()
    return Finished(name, worked, time.perf_counter() - began, line, details)


@dataclass(frozen=True)
class Needs:
    """What each job gets of another machine."""

    cpus: float = 1
    gpus: float = 0  # a share of one, or several
    memory_gib: float | None = None  # None: as the machine has it

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Self:
        """By their names, numbers or their digits; BadSetting where one is unknown or no amount."""
        names = cls.__dataclass_fields__
        for name in words:
            if name not in names:
                raise BadSetting(f"resource {name!r} is none of {', '.join(names)}")
        return cls(**{name: _amount(name, value) for name, value in words.items()})

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    def __str__(self) -> str:
        words = [f"cpus={self.cpus:g}", f"gpus={self.gpus:g}"]
        return ", ".join([*words, *([f"memory_gib={self.memory_gib:g}"] if self.memory_gib else [])])


def _amount(name: str, value: Any) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = -1.0
    if not (0 if name == "gpus" else 1e-3) <= amount < float("inf"):
        raise BadSetting(f"resource {name}={value!r} is no amount; give a number, as in {name}=1")
    return amount
