"""Stopping when asked: the first signal lets the step end and be saved, a second one stops at once.

Ctrl-C (SIGINT), SIGTERM (a shutdown, Slurm's pre-emption) and SIGUSR1 (what Slurm is asked to send before its limit).
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lilliput.system import launched

LISTENED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
_asked: int | None = None


class Stopped(BaseException):
    """Work ended where it was asked to, all of it saved.

    No error, as KeyboardInterrupt is none: what catches one item's errors, so that they cost no others, lets it by.
    """


def asked() -> int | None:
    """The number of the signal that asked this process to stop."""
    return _asked


def ask(number: int) -> None:
    """Stop, as if this process had got the signal of that number: another one that it works with has."""
    global _asked
    _asked = number


def check(what: str = "stopped") -> None:
    """Stopped, if that was asked for; between two pieces of work."""
    if _asked is not None:
        raise Stopped(f"{what}; the same command goes on from here")


@contextmanager
def listening() -> Iterator[None]:
    """Within the block, which must run in the main thread, signals ask; a second one kills as it always did, but one of
    several processes of a run: a terminal or a scheduler may reach it beside torchrun, which kills it in the end."""
    global _asked
    asks = _ask if launched.size() == 1 else _heed
    before = {number: signal.signal(number, asks) for number in LISTENED}
    try:
        yield
    finally:
        _asked = None
        for number, handler in before.items():
            signal.signal(number, handler)


def obey_parent() -> None:
    """In a worker: only SIGTERM asks, however often; Ctrl-C reaches the parent too, and it decides."""
    for number in LISTENED:
        signal.signal(number, _heed if number == signal.SIGTERM else signal.SIG_IGN)


def obey(*numbers: int) -> None:
    """In a worker for a job: these signals ask, however often; what one before it was asked is over."""
    global _asked
    _asked = None
    for number in numbers:
        signal.signal(number, _heed)


def _ask(number: int, _frame: object) -> None:
    global _asked
    if _asked is not None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _asked = number
    # not by `say`: whatever it interrupts may be in the middle of that
    os.write(2, b"\nlilliput: stopping when this step is saved; once more stops at once\n")


def _heed(number: int, _frame: object) -> None:
    ask(number)
