"""Progress with an estimate of what is left: a live bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from lilliput.system.visible import visible

CONSOLE = Console(stderr=True, highlight=False)
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_MESSAGES = 0.2
_send: Callable[[object], None] | None = None


def send_to(send: Callable[[object], None]) -> None:
    """From now on this process shows nothing itself: lines, and (what, done, total) of a task, go to its parent."""
    global _send
    _send = send


def say(text: str) -> None:
    """Print one line, above any live bar; nothing in it is read as markup or obeyed by the terminal."""
    if _send:
        _send(text)
    else:
        CONSOLE.print(Text(visible(text)), soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 05 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return "unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def task(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show `what` until the block ends; yields a function that advances it by so many of `total` steps."""
    what = visible(what)
    if _send:
        yield _messages(what, total, _send)
    elif CONSOLE.is_terminal:
        with _bars() as bars:
            yield partial(bars.advance, bars.add_task(what, total=total))
    else:
        yield _plain_lines(what, total)


def _plain_lines(what: str, total: int) -> Callable[[int], None]:
    start = last = time.monotonic()
    done = 0

    def advance(steps: int = 1) -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            seconds_left = (now - start) / done * (total - done)
            print(f"{what}: {done}/{total}, {duration(seconds_left)} left", file=sys.stderr, flush=True)

    return advance


def _messages(what: str, total: int, send: Callable[[object], None]) -> Callable[[int], None]:
    done, last = 0, 0.0

    def advance(steps: int = 1) -> None:
        nonlocal done, last
        done += steps
        if (now := time.monotonic()) - last >= SECONDS_BETWEEN_MESSAGES:
            last = now
            send((what, done, total))

    return advance


def _bars() -> Progress:
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=CONSOLE, transient=True)


class Board:
    """What several workers are doing: a bar each on a terminal, a plain line each now and then elsewhere."""

    def __init__(self) -> None:
        self.bars = _bars() if CONSOLE.is_terminal else None
        self.shown: dict[int | None, tuple[str, TaskID]] = {}
        self.lines: dict[int | None, float] = {}
        if self.bars:
            self.bars.start()

    def show(self, worker: int | None, what: str, done: int, total: int) -> None:
        """`worker` has done so many of `total` steps of `what`; "" for nothing."""
        if self.bars is None:
            now = time.monotonic()
            if what and now - self.lines.setdefault(worker, now) >= SECONDS_BETWEEN_LINES:
                self.lines[worker] = now
                print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)
            return
        before, bar = self.shown.get(worker, ("", TaskID(0)))
        if before and before != what:
            self.bars.remove_task(bar)
        if what and before != what:
            bar = self.bars.add_task(what, total=total)
        if what:
            self.bars.update(bar, completed=done)
        self.shown[worker] = what, bar

    def close(self) -> None:
        if self.bars:
            self.bars.stop()
