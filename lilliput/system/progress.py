"""Progress with an estimate of what is left: a live bar on a terminal, plain lines elsewhere."""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from lilliput.system.visible import visible

CONSOLE = Console(stderr=True, highlight=False)
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_MESSAGES = 0.2
Message = str | tuple[str, int, int]  # a line, or (what, done, total) of a task
_send: Callable[[Message], None] | None = None
_of_thread = threading.local()  # its `send`, where it has one of its own


@contextmanager
def sent_to(send: Callable[[Message], None]) -> Iterator[None]:
    """Within, this process shows nothing itself: lines, and (what, done, total) of a task, are sent."""
    global _send
    before, _send = _send, send
    try:
        yield
    finally:
        _send = before


class Aside:
    """What other threads say, kept until the one that speaks for the process says it: a bar is one thread's."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()

    def hear(self) -> None:
        """From here on what this thread says is kept; its tasks are not shown."""
        _of_thread.send = self._keep

    def _keep(self, message: Message) -> None:
        if isinstance(message, str):
            self._lines.append(message)

    def say(self) -> None:
        while self._lines:
            say(self._lines.popleft())


def _sending() -> Callable[[Message], None] | None:
    return getattr(_of_thread, "send", None) or _send


def say(text: str) -> None:
    """Print one line, above any live bar; nothing in it is read as markup or obeyed by the terminal."""
    if send := _sending():
        send(text)
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
    if send := _sending():
        yield _advance(_messages(what, total, send))
    elif CONSOLE.is_terminal:
        with _bars() as bars:
            yield partial(bars.advance, bars.add_task(what, total=total))
    else:
        yield _advance(_plain_lines(what, total, 0))


def _advance(tell: Callable[[int], None]) -> Callable[[int], None]:
    """From a function that is told how many steps are done in all, one that is told how many more."""
    done = 0

    def advance(steps: int = 1) -> None:
        nonlocal done
        done += steps
        tell(done)

    return advance


def _plain_lines(what: str, total: int, done: int) -> Callable[[int], None]:
    """Told how many steps are done, prints a line now and then; `done` are so many at the start."""
    start, last, first = time.monotonic(), time.monotonic(), done

    def tell(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done > first:
            last = now
            seconds_left = (now - start) / (done - first) * (total - done)
            print(f"{what}: {done}/{total}, {duration(seconds_left)} left", file=sys.stderr, flush=True)

    return tell


def _messages(what: str, total: int, send: Callable[[Message], None]) -> Callable[[int], None]:
    last = 0.0

    def tell(done: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= SECONDS_BETWEEN_MESSAGES:
            last = now
            send((what, done, total))

    return tell


def _bars() -> Progress:
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=CONSOLE, transient=True)


class Board:
    """What several workers are doing: a bar each on a terminal, below what `above` draws; plain lines elsewhere."""

    def __init__(self, above: Callable[[], RenderableType] | None = None):
        self.is_live = CONSOLE.is_terminal
        self.shown: dict[int | None, _Shown] = {}
        if self.is_live:
            self.bars = _bars()
            drawn = lambda: Group(above(), self.bars) if above else self.bars  # noqa: E731
            self.live = Live(console=CONSOLE, get_renderable=drawn, refresh_per_second=2)
            self.live.start()

    def hear(self, worker: int | None, message: Message) -> None:
        """A line to be said, or that `worker` has done so many of a task's steps: (what, done, total)."""
        if isinstance(message, str):
            CONSOLE.print(Text(visible(message)), soft_wrap=True)
            return
        what, done, total = message
        shown = self.shown.get(worker)
        if shown is None or shown.what != what:
            self.rest(worker)
            bar = self.bars.add_task(what, total=total) if self.is_live else TaskID(0)
            shown = self.shown[worker] = _Shown(what, bar, _plain_lines(what, total, done))
        if self.is_live:
            self.bars.update(shown.bar, completed=done)
        else:
            shown.line(done)

    def rest(self, worker: int | None) -> None:
        """`worker` does nothing that has steps."""
        shown = self.shown.pop(worker, None)
        if shown and self.is_live:
            self.bars.remove_task(shown.bar)

    def close(self) -> None:
        """What is drawn stays as it is."""
        if self.is_live:
            self.live.stop()


class _Shown(NamedTuple):
    """What a worker is doing."""

    what: str
    bar: TaskID
    line: Callable[[int], None]
