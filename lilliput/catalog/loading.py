"""The things themselves: imported when they are asked for."""

import importlib
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from types import ModuleType
from typing import Any

from lilliput.catalog.entries import LIBRARIES, MEANT, check, entry
from lilliput.catalog.files import IMPORTED, Location, digest_of, imported_digest, locations, singular
from lilliput.errors import BadSetting, LilliputError


def technique(name: str) -> Any:
    """The Technique class of a file."""
    return _thing("techniques", name)


def backbone_builder(
    name: str, *, width: float = 1.0, channels_kept: Mapping[str, int] | None = None, **options: Any
) -> Callable[..., Any]:
    """A builder (*, channels=3, width=1.0) -> Backbone; a technique's width multiplies the given one.

    `channels_kept`: of a pruned network, how many channels each convolution named there has left.
    """
    room = importlib.import_module("lilliput.backbones")
    library = name.startswith(LIBRARIES)
    build = partial(room.library_backbone, name) if library else _thing("backbones", name)
    fixed = library or not locations("backbones")[name].is_own  # a user's own may be written anew while we run

    def built(*, channels: int = 3, width: float = 1.0, outer: float = width) -> Any:
        settings = {"channels": channels, "width": width * outer, **options}
        with room.of_one_kind(json.dumps([name, settings], default=repr)) if fixed else nullcontext():
            backbone = build(**settings)
        return room.keep_channels(backbone, channels_kept) if channels_kept else backbone

    return built


def probe(name: str) -> Callable[..., Any]:
    """The function of a probe's file: (exam, *, options) yields (metric, value)."""
    return _thing("probes", name)


def dataset(name: str) -> Callable[..., Any]:
    """The `prepare` function of a data set's file."""
    return _thing("datasets", name)


def module(kind: str, name: str) -> ModuleType:
    """The module of a thing; BadSetting where a user's own file cannot be imported.

    A file of a user's own whose text has changed since is imported anew.
    """
    location = locations(kind)[check(kind, name)]
    return _own_module(location) if location.is_own else importlib.import_module(location.module)


def _own_module(location: Location) -> ModuleType:
    digest = digest_of(location.file)
    if imported_digest(location) != digest:
        _forget(location)
    try:
        loaded = importlib.import_module(location.module)
    except LilliputError:
        raise
    except Exception as error:
        raise BadSetting(f"{location.file} cannot be imported{_line(location, error)}: {_reason(error)}") from error
    IMPORTED.setdefault(location.module, (str(location.file), digest))  # of an installed package: not of our loader
    return loaded


def _thing(kind: str, name: str) -> Any:
    home, symbol = module(kind, name), entry(kind, name).symbol
    if symbol is None or not hasattr(home, symbol):
        meant = MEANT[kind].format(name=name)
        raise BadSetting(f"{home.__file__} is no {singular(kind)}: it must define {meant}")
    return getattr(home, symbol)


def _forget(location: Location) -> None:
    """What was imported under this name has another text, or came from another file."""
    if IMPORTED.pop(location.module, None):
        sys.modules.pop(location.module, None)


def _line(location: Location, error: Exception) -> str:
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(location.file)
    ]
    return f", line {lines[-1]}" if lines else ""


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
