"""A crew: processes that share a list of jobs, each on its part of the processor.

Small networks on small images leave most of a second thread idle, so two jobs side by side are quicker than two threads
on each in turn. A worker that dies takes its own job with it and nothing else.
"""

import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

from lilliput.errors import BadSetting
from lilliput.studies.engines._engine import DEATHS, Engine, Event, Finished, Jobs, Started, Work, done
from lilliput.system import progress, signals
from lilliput.system.door import UNGUARDED
from lilliput.system.machine import cores

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

BYTES_PER_WORKER = 3 * 2**30  # what a run of usual size takes at most, with its libraries
SECONDS_BETWEEN_LOOKS = 0.5


@final
class Processes(Engine):
    """Of this machine: the caller's own for one job at a time, else so many others."""

    is_here = True

    def __init__(self, workers: int = 1):
        self.workers = workers

    def opened(self) -> AbstractContextManager[Self]:
        """The server that forks workers begins to import meanwhile."""
        if self.workers > 1 and _context().get_start_method() == "forkserver":
            importlib.import_module("multiprocessing.forkserver").ensure_running()  # not where there is none
        return nullcontext(self)

    def run(self, jobs: Jobs, make_shop: Callable[[], Any], board: progress.Board, folder: Path) -> Iterator[Event]:
        if self.workers > 1:
            return side_by_side(jobs, make_shop, self.workers, board)
        return in_turn(jobs, make_shop(), board)


def usual_size(device: str | None) -> int:
    """A worker for each core that memory has room for; one where an accelerator computes or files have no locks."""
    import torch

    from lilliput.system.locks import has_locks
    from lilliput.system.machine import available_bytes

    if device is None:
        device = "cuda" if torch.cuda.is_available() or torch.backends.mps.is_available() else "cpu"
    if torch.device(device).type != "cpu" or not has_locks():
        return 1
    room = available_bytes() // BYTES_PER_WORKER
    return max(1, min(cores(), room))


def in_turn(jobs: Jobs, shop: Any, board: progress.Board) -> Iterator[Event]:
    """One job after the other, in this process, until a signal asks to stop."""
    hear = partial(board.hear, None)
    try:
        for name, job in jobs:
            if signals.asked():
                return
            yield Started(name)
            with progress.sent_to(hear):
                finished = done(name, job, shop)
            board.rest(None)
            yield finished
    finally:
        board.close()


def side_by_side(jobs: Jobs, make_shop: Callable[[], Any], workers: int, board: progress.Board) -> Iterator[Event]:
    """The jobs, in order, by so many processes; each makes its own workshop once. Events come as they happen.

    A job whose worker is killed goes to another, which goes on from what is saved; only when that has happened too
    often is it given up. A signal that asks to stop is passed on, and what each worker has in hand is saved.
    """
    left = list(reversed(jobs))
    crew: dict[Connection, _Worker] = {}
    deaths: Counter[str] = Counter()
    stopping = False
    try:
        while left or crew:
            if signals.asked() and not stopping:
                stopping = True
                left.clear()
                for worker in crew.values():
                    worker.process.terminate()
            while left and len(crew) < workers:
                worker = _Worker(make_shop, threads=max(1, cores() // workers))
                crew[worker.connection] = worker
                yield worker.give(*left.pop())
            for connection in wait(list(crew), timeout=SECONDS_BETWEEN_LOOKS):
                worker = crew[connection]  # type: ignore[index]
                event = worker.hear(board)
                if event is None:
                    continue
                if worker.is_dead and stopping:
                    event = event._replace(error=None, stopped=True)
                elif worker.is_dead:
                    deaths[event.name] += 1
                    if deaths[event.name] < DEATHS:
                        progress.say(f"{event.name}: {event.error}; another worker goes on with it")
                        left.append((worker.name, worker.job))
                        event = None
                if event:
                    yield event
                if worker.is_dead or not left:
                    worker.dismiss()
                    del crew[connection]  # type: ignore[arg-type]
                else:
                    yield worker.give(*left.pop())
    finally:
        board.close()
        for worker in crew.values():
            worker.process.kill()  # files are written whole or not at all


class _Worker:
    """The parent's side of one process."""

    def __init__(self, make_shop: Callable[[], Any], *, threads: int):
        context = _context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, dict(os.environ), make_shop, threads), daemon=True)
        with _without_interrupts():  # Ctrl-C reaches the parent too, and it decides
            self.process.start()
        theirs.close()
        self.name, self.began, self.is_dead = "", 0.0, False
        self.job: Work

    def give(self, name: str, job: Work) -> Started:
        self.name, self.job, self.began = name, job, time.perf_counter()
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
            board.rest(self.process.pid)
            if self.process.exitcode == UNGUARDED:
                raise BadSetting(
                    "several workers run the calling script again each: put what it does under "
                    'if __name__ == "__main__":, or give workers=1'
                ) from None
            reason = f"its process ended with code {self.process.exitcode}"
            if self.process.exitcode == -9:
                reason += " (killed, most likely for want of memory: try fewer --workers)"
            return Finished(self.name, True, time.perf_counter() - self.began, reason)
        if isinstance(message, Finished):
            board.rest(self.process.pid)
            return message
        board.hear(self.process.pid, message)
        return None

    def dismiss(self) -> None:
        if not self.is_dead:
            with suppress(OSError):
                self.connection.send(None)
            self.process.join()
        self.connection.close()


def _context() -> "SpawnContext | ForkServerContext":
    """How processes are made: forks of a server that has imported what they need and computed nothing, since a fork
    of this process would copy the state of torch's threads; where there is no such server, each imports for itself."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lilliput.api"])
    return context


def _work(connection: Connection, environment: dict[str, str], make_shop: Callable[[], Any], threads: int) -> None:
    """A worker's life. Its server may be older than the parent's environment."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    signals.obey_parent()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with progress.sent_to(connection.send):
        shop = make_shop()
        while (order := connection.recv()) is not None:
            name, job = order
            connection.send(done(name, job, shop))


def _die_with_parent() -> None:
    """An orphan would hold its cell's lock and compute for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
