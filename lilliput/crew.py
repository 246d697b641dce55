"""A crew: processes that share a list of jobs, each on its part of the processor.

Small networks on small images leave most of a second thread idle, so two jobs side by side are quicker than two threads
on each in turn. A worker that dies takes its own job with it and nothing else.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from lilliput import progress
from lilliput.errors import LilliputError

Job = Callable[[Any], bool]  # of the workshop that its worker keeps; says whether there was anything to do
BYTES_PER_WORKER = 3 * 2**30  # what a run may take at most, and its libraries


class Started(NamedTuple):
    name: str


class Finished(NamedTuple):
    name: str
    worked: bool
    seconds: float
    error: str | None = None  # one line
    details: str = ""


Event = Started | Finished


def usual_size(device: str | None) -> int:
    """A worker for each core that memory has room for; one where an accelerator computes or files have no locks."""
    import torch

    from lilliput.files import has_locks

    if device is None:
        device = "cuda" if torch.cuda.is_available() or torch.backends.mps.is_available() else "cpu"
    if torch.device(device).type != "cpu" or not has_locks():
        return 1
    room = _available_bytes() // BYTES_PER_WORKER
    return max(1, min(cores(), room))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _available_bytes() -> int:
    """What the system could give, the page cache counted in; not more than a container may have."""
    found = [BYTES_PER_WORKER * cores()]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


def in_turn(jobs: Sequence[tuple[str, Job]], shop: Any) -> Iterator[Event]:
    """One job after the other, in this process."""
    for name, job in jobs:
        yield Started(name)
        yield _done(name, job, shop)


def side_by_side(jobs: Sequence[tuple[str, Job]], make_shop: Callable[[], Any], workers: int) -> Iterator[Event]:
    """The jobs, in order, by so many processes; each makes its own workshop once. Events come as they happen."""
    left = list(reversed(jobs))
    crew: dict[Connection, _Worker] = {}
    board = progress.Board()
    try:
        while left or crew:
            while left and len(crew) < workers:
                worker = _Worker(make_shop, threads=max(1, cores() // workers))
                crew[worker.connection] = worker
                yield worker.give(*left.pop())
            for connection in wait(list(crew)):
                worker = crew[connection]  # type: ignore[index]
                event = worker.hear(board)
                if event is None:
                    continue
                yield event
                if worker.is_dead or not left:
                    worker.dismiss()
                    del crew[connection]  # type: ignore[arg-type]
                else:
                    yield worker.give(*left.pop())
    finally:
        board.close()
        for worker in crew.values():
            worker.process.terminate()  # files are written whole or not at all


class _Worker:
    """The parent's side of one process."""

    def __init__(self, make_shop: Callable[[], Any], *, threads: int):
        context = multiprocessing.get_context("spawn")  # a fork would copy the state of torch's threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, make_shop, threads), daemon=True)
        with _without_interrupts():  # Ctrl-C reaches the parent too, and it decides
            self.process.start()
        theirs.close()
        self.name, self.began, self.is_dead = "", 0.0, False

    def give(self, name: str, job: Job) -> Started:
        self.name, self.began = name, time.perf_counter()
        with suppress(OSError):  # it has died since its last word: that is heard next
            self.connection.send((name, job))
        return Started(name)

    def hear(self, board: progress.Board) -> Finished | None:
        """What it says: that its job is over, or something for the board."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            self.is_dead = True
            board.show(self.process.pid, "", 0, 0)
            reason = f"its process ended with code {self.process.exitcode}"
            if self.process.exitcode == -9:
                reason += " (killed, most likely for want of memory: try fewer --workers)"
            return Finished(self.name, True, time.perf_counter() - self.began, reason)
        if isinstance(message, Finished):
            board.show(self.process.pid, "", 0, 0)
            return message
        if isinstance(message, str):
            progress.say(message)
        else:
            board.show(self.process.pid, *message)
        return None

    def dismiss(self) -> None:
        if not self.is_dead:
            with suppress(OSError):
                self.connection.send(None)
            self.process.join()
        self.connection.close()


def _work(connection: Connection, make_shop: Callable[[], Any], threads: int) -> None:
    """A worker's life."""
    import torch

    torch.set_num_threads(threads)
    progress.send_to(connection.send)
    shop = make_shop()
    while (order := connection.recv()) is not None:
        name, job = order
        connection.send(_done(name, job, shop))


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started within ignores Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _done(name: str, job: Job, shop: Any) -> Finished:
    """Do the job; what it raises is told, and must not cost the others."""
    began = time.perf_counter()
    worked, line, details = True, None, ""
    try:
        worked = job(shop)
    except Exception as error:
        line = " ".join(str(error).split()) or type(error).__name__
        details = "" if isinstance(error, LilliputError) else traceback.format_exc()
    return Finished(name, worked, time.perf_counter() - began, line, details)
