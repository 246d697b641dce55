"""What a probe is given and gives: a saved encoder before images of the kind that it needs; figures and flags.

A probe states its need by the annotation of its first parameter: `Exam`, `LabelledExam` or `MaskedExam`. A new kind is
a subclass of one of them: it adds what it shows, and says of the judge's images what they lack for it.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from lilliput.data.masks import has_masks, masks_of
from lilliput.data.store import Images
from lilliput.errors import BadData, BadSetting
from lilliput.probes._features import extract
from lilliput.system.plan import Plan

HELD_OUT = 10  # one labelled training image in ten is never fitted: it chooses checkpoints and settings

T = TypeVar("T")


@dataclass(frozen=True)
class Flag:
    """What is wrong with a probe's figures; it yields one beside them."""

    name: str


@dataclass(frozen=True, eq=False)
class Taken:
    """The class that each test image is taken for, numbers [M]; a classifier yields it beside its accuracy."""

    classes: Tensor


Finding = tuple[str, float] | Flag | Taken  # what a probe yields: (metric, value), or what is known besides
Probe = Callable[..., Iterable[Finding]]


@dataclass(frozen=True, eq=False)
class Exam:
    """A saved encoder before images, whose labels, if they have any, are not asked for."""

    encoder: Any
    images: Images
    _: KW_ONLY
    plan: Plan
    seed: int = 0  # of all randomness
    label: str = ""  # names the encoder in messages
    _results: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, encoder: Any, train: Images, test: Images, **circumstances: Any) -> Self:
        """The exam made of a judge's images; `circumstances` are plan, seed and label."""
        return cls(encoder, train, **circumstances)

    @classmethod
    def lacking(cls, train: Images, test: Images) -> str | None:
        """What a judge's images lack for an exam of this kind and the way out, or None."""
        return None

    @cached_property
    def features(self) -> Tensor:
        """Of the images, [N, dim], on the plan's device."""
        return extract(self.encoder, self.images, plan=self.plan, label=self.titled("features"))

    def once(self, function: Callable[..., T], **options: Any) -> T:
        """function(self, **options), computed once for all that ask for it with equal options, all hashable.

        An option that is left out counts as its default.
        """
        bound = inspect.signature(function).bind(self, **options)
        bound.apply_defaults()
        key = function, *tuple(bound.arguments.items())[1:]
        if key not in self._results:
            self._results[key] = function(self, **options)
        return self._results[key]

    def titled(self, task: str) -> str:
        """A task's title for the progress bar."""
        return f"{self.label} {task}".strip()


@dataclass(frozen=True, eq=False)
class LabelledExam(Exam):
    """A saved encoder before labelled images: nine tenths of those to train on are fitted, a tenth is held out.

    `fit` and `held_out` are rows of `train`; every class has its share in both. BadData where no class has enough.
    """

    test: Images
    fit: np.ndarray = field(init=False, repr=False)
    held_out: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, rows in zip(("fit", "held_out"), split(self.train.labels), strict=True):
            object.__setattr__(self, name, rows)

    @classmethod
    def of(cls, encoder: Any, train: Images, test: Images, **circumstances: Any) -> Self:
        return cls(encoder, train, test, **circumstances)

    @classmethod
    def lacking(cls, train: Images, test: Images) -> str | None:
        for images in (train, test):
            if not images.is_labelled:
                return f"labels, and {images.folder} has none: put its images in train/<class>/ and test/<class>/"
        return None

    @property
    def train(self) -> Images:
        """The images to learn from, as `images`."""
        return self.images

    @property
    def classes(self) -> list[str]:
        """Their names, by number."""
        return self.train.classes

    @cached_property
    def train_labels(self) -> Tensor:
        """int64 [N], on the plan's device."""
        return torch.as_tensor(self.train.labels, device=self.plan.device)

    @cached_property
    def test_labels(self) -> Tensor:
        """int64 [M], on the plan's device."""
        return torch.as_tensor(self.test.labels, device=self.plan.device)

    @property
    def train_features(self) -> Tensor:
        """[N, dim], on the plan's device."""
        return self.features

    @cached_property
    def test_features(self) -> Tensor:
        """[M, dim], on the plan's device."""
        return extract(self.encoder, self.test, plan=self.plan, label=self.titled("features, test"))


@dataclass(frozen=True, eq=False)
class MaskedExam(LabelledExam):
    """A saved encoder before labelled images, and masks of what is to be seen in those to test with."""

    @classmethod
    def lacking(cls, train: Images, test: Images) -> str | None:
        if not has_masks(test):
            return f"masks of the objects, and {test.folder} has none: put masks.npz beside train/ and test/"
        return super().lacking(train, test)

    @cached_property
    def masks(self) -> np.ndarray:
        """uint8 0 or 1 [M, H, H] of the test images, all 0 where one has none; BadData where none has."""
        masks = masks_of(self.test)
        if masks is None:
            raise BadData(f"this exam needs {self.lacking(self.train, self.test)}")
        return masks

    @cached_property
    def train_masks(self) -> np.ndarray | None:
        """As `masks`, of the images to learn from; None where none are known of any."""
        return masks_of(self.train)


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows held out: within every class, each tenth image in the store's order.

    BadData where no class has ten.
    """
    rank = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    held_out = rank % HELD_OUT == HELD_OUT - 1
    if not held_out.any():
        raise BadData(f"no class has {HELD_OUT} training images, so none can be held out; add labelled images")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def needs(probe: Probe) -> type[Exam]:
    """The kind of exam that a probe asks for by the annotation of its first parameter; BadSetting where it has none."""
    kind = _first_annotation(probe)
    if not inspect.isclass(kind) or not issubclass(kind, Exam):
        name = getattr(probe, "__name__", probe)
        raise BadSetting(f"the probe {name} does not say what it needs: write {name}(exam: LabelledExam), or Exam")
    return kind


def _first_annotation(probe: Probe) -> Any:
    """Of the first parameter alone: the other names of a signature may be there for a type checker only."""
    first = next(iter(inspect.signature(probe).parameters.values()), None)
    annotation = first.annotation if first else None
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, _names_around(probe))
    except Exception:  # a string that means nothing where the probe is written
        return None


def _names_around(probe: Any) -> dict[str, Any]:
    """The globals of the function, which a partial or a decorator may hold."""
    while isinstance(probe, partial):
        probe = probe.func
    function = inspect.unwrap(probe)
    return getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])


def check_need(name: str, probe: Probe, train: Images, test: Images) -> None:
    """BadData where the judge's images are not what the probe needs."""
    if lack := needs(probe).lacking(train, test):
        raise BadData(f"the probe {name} needs {lack}")


def exams_for(
    probes: Mapping[str, Probe], encoder: Any, train: Images, test: Images, **circumstances: Any
) -> dict[str, Exam]:
    """An exam for each probe, of the kind that it needs, or of one that shows more and is needed by another probe.

    So probes share what they compute. `circumstances` are plan, seed and label.
    """
    kinds = dict.fromkeys(needs(probe) for probe in probes.values())
    richest = [kind for kind in kinds if not any(kind in other.__mro__[1:] for other in kinds)]
    exams = [kind.of(encoder, train, test, **circumstances) for kind in richest]
    return {name: next(exam for exam in exams if isinstance(exam, needs(probe))) for name, probe in probes.items()}


class Found(NamedTuple):
    """What a probe has yielded."""

    figures: list[tuple[str, float]]  # (metric, value)
    flags: list[str]
    taken: Tensor | None  # [M], the class that each test image is taken for


def sorted_out(findings: Iterable[Finding]) -> Found:
    """What a probe has yielded, by its kind."""
    figures, flags, taken = [], [], None
    for finding in findings:
        if isinstance(finding, Flag):
            flags.append(finding.name)
        elif isinstance(finding, Taken):
            taken = finding.classes
        else:
            figures.append(finding)
    return Found(figures, flags, taken)
