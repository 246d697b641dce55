"""What can go wrong through no fault of the code: the thing, its value, the way out, in one line."""

import importlib
from typing import Any


class LilliputError(Exception):
    """An error that the user can mend; the command line prints it without a traceback."""


class UnknownName(LilliputError):
    """A name that no file, option or data set answers to."""


class BadData(LilliputError):
    """Images or labels that cannot be used as asked."""


class Unreadable(BadData):
    """What the system did not let us read: perhaps whole, so nothing to set aside or to write anew."""


class CannotWrite(LilliputError):
    """A disk that is full, or closed to the user."""


class BadSetting(LilliputError):
    """An option or a combination of options that cannot work."""


def wanted(module: str, *, extra: str) -> Any:
    """The module of an optional library; BadSetting with the way to it where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        raise BadSetting(f'this needs {library}, which is not installed: pip install "lilliput[{extra}]"') from None
