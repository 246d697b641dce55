"""Figures look the same whatever a user has configured for figures of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib


@contextmanager
def own_style() -> Iterator[None]:
    """Within the block matplotlib draws as it comes: no matplotlibrc of the user's, no style that a script has set."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
