"""What Python callers give, as the work wants it: whole numbers, lists of names, paths; refused by its name if not.

Notebooks have numpy's numbers, one name where several may stand, and folders that begin with ~.
"""

import functools
import inspect
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from lilliput.errors import BadSetting

LEAST = {"image_size": 1, "limit": 1, "epochs": 1, "batch": 2, "every": 1, "until_converged": 1, "workers": 1}
LEAST |= {"images": 1, "steps": 1, "sample": 0, "threads": 1, "seed": 0, "seeds": 0, "at": 0, "k": 1, "again": 0}
NAMES = ("techniques", "backbones", "probes")
SEVERAL = (*NAMES, "seeds", "at")
PATHS = ("data", "out", "classifier", "pool", "folder", "judge", "data_folder")
UNGUARDED = 78  # the exit code of a worker that was about to run the whole script once more


def door(job: Callable) -> Callable:
    """A function whose arguments of these names are put right, or refused by a BadSetting, before any work."""
    signature = inspect.signature(job)

    @functools.wraps(job)
    def entered(*given, **named):
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # the script runs anew in a worker
            os._exit(UNGUARDED)
        bound = signature.bind(*given, **named)
        for name, value in bound.arguments.items():
            bound.arguments[name] = put_right(name, value)
        return job(*bound.args, **bound.kwargs)

    return entered


def put_right(name: str, value: Any) -> Any:
    """The value of an argument of that name."""
    if value is None:
        return None
    if name in SEVERAL:
        items = _items(value)
        if not items:
            raise BadSetting(f"{name} is empty; give one or more")
        return [_name(name, item) if name in NAMES else whole(name, item) for item in items]
    if name in LEAST:
        return whole(name, value)
    if name in PATHS and isinstance(value, str | os.PathLike):
        return os.path.expanduser(value)
    return value


def _items(value: Any) -> list:
    if isinstance(value, str | os.PathLike):
        return [value]
    try:
        return list(value)
    except TypeError:  # a number
        return [value]


def whole(name: str, value: Any) -> int:
    """A whole number that is large enough, from whatever kind of number it is."""
    try:
        number = int(value)
        fits = not isinstance(value, bool | str | bytes) and number == value and number >= LEAST[name]
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise BadSetting(f"{name} {value!r} is not a whole number of {LEAST[name]} or more")
    return number


def _name(name: str, value: Any) -> str | os.PathLike:
    if not isinstance(value, str | os.PathLike):
        raise BadSetting(f"{name} {value!r} is neither a name nor a path")
    return value
