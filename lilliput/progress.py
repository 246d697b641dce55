"""Progress with an estimate of what is left: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
seconds_between_lines = 10.0


def say(text: str) -> None:
    """Print one line, above any live bar; nothing in it is read as markup."""
    console.print(escape(text), soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def task(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show `what` until the block ends; yields a function that advances it by so many of `total` steps."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            job = bar.add_task(escape(what), total=total)
            yield partial(bar.advance, job)
    else:
        yield _plain_lines(what, total)


def track(items: Iterable, what: str, total: int) -> Iterator:
    """Yield from `items`, showing how many of `total` are done."""
    with task(what, total) as advance:
        for item in items:
            yield item
            advance(1)


def _plain_lines(what: str, total: int) -> Callable[[int], None]:
    start = last = time.monotonic()
    done = 0

    def advance(steps: int = 1) -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= seconds_between_lines:
            last = now
            left = (now - start) / done * (total - done)
            print(f"{what}: {done}/{total}, {duration(left)} left", file=sys.stderr, flush=True)

    return advance
