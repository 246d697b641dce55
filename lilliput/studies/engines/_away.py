"""A job in a process on another machine: what it is told, what keeps it from the study, and its work.

Both machines must see the study's folder and the prepared images by the same paths: a file system that they share.
"""

import os
import pickle
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from lilliput.studies.engines._engine import Finished, Work, done
from lilliput.system import signals
from lilliput.system.files import by_chance, home
from lilliput.system.locks import InUse, alone
from lilliput.system.progress import Message, sent_to

ALIKE = ("LILLIPUT_USE", "GLIBC_TUNABLES", "CUBLAS_WORKSPACE_CONFIG")  # of the environment, there as here
SECONDS_OF_A_LOCK = 5.0  # that a process which is ending may still hold
SECONDS_OF_A_DEAD_LOCK = 180.0  # twice what a server of files grants a machine that no longer answers
WAY_OUT = "put --out and $LILLIPUT_HOME on a file system that all machines share, under the same path"

_kept: tuple[bytes, Any] | None = None  # the workshop that was made last in this process, by its order


class Order(NamedTuple):
    """What a process elsewhere is told."""

    name: str
    job: bytes  # pickled Work
    make_shop: bytes  # pickled; gives the workshop
    directory: str  # where the caller works: names of files may be relative to it
    threads: int
    patience: float = SECONDS_OF_A_LOCK  # seconds that another process may still hold the job's lock

    @classmethod
    def of(cls, name: str, job: Work, make_shop: Callable[[], Any], threads: int) -> "Order":
        return cls(name, pickle.dumps(job), pickle.dumps(make_shop), str(Path.cwd()), threads)

    def after_a_death(self) -> "Order":
        """The same again, when who had it before may be dead without its lock's being known free."""
        return self._replace(patience=SECONDS_OF_A_DEAD_LOCK)


def environment() -> dict[str, str]:
    """What a process elsewhere must have of this one's environment."""
    return {"LILLIPUT_HOME": str(home().absolute()), **{name: os.environ[name] for name in ALIKE if name in os.environ}}


def carry_out(order: Order, send: Callable[[Message], None]) -> Finished:
    """Do the job; lines and progress are sent."""
    began = time.perf_counter()
    with suppress(OSError):
        os.chdir(order.directory)
    os.environ["OMP_NUM_THREADS"] = str(order.threads)  # torch reads it when it is imported, with the study
    if "torch" in sys.modules:  # which an earlier job of this process had
        sys.modules["torch"].set_num_threads(order.threads)
    with sent_to(send):
        try:
            shop, job = _shop(order.make_shop), pickle.loads(order.job)
        except Exception as error:
            return Finished(order.name, True, time.perf_counter() - began, _closed(error))
        finished = done(order.name, job, shop)
        while finished.elsewhere and time.perf_counter() - began < order.patience and not signals.asked():
            time.sleep(0.5)
            finished = done(order.name, job, shop)
    return finished


def _shop(make_shop: bytes) -> Any:
    global _kept
    if _kept is None or _kept[0] != make_shop:
        _kept = make_shop, pickle.loads(make_shop)()
    return _kept[1]


@contextmanager
def token_in(folder: Path) -> Iterator[str]:
    """A folder in the study's own for other machines to `look` for; its lock is held as long as it is there."""
    token = folder.absolute() / f".seen-{by_chance()}"
    token.mkdir()
    try:
        with alone(token):
            yield str(token)
    finally:
        shutil.rmtree(token, ignore_errors=True)


class Look(NamedTuple):
    """What a machine sees of a study on another one."""

    host: str
    hindrance: str | None  # a line
    sees_locks: bool


def look(token: str, make_shop: bytes) -> Look:
    """From the machine where this runs: whether the token is seen, its lock, and the images of the study."""
    host, sees_locks = socket.gethostname(), False
    if not Path(token).is_dir():
        return Look(host, f"{host} does not see {Path(token).parent}; {WAY_OUT}", sees_locks)
    try:
        with alone(Path(token)):
            pass
    except InUse:
        sees_locks = True
    try:
        pickle.loads(make_shop)
    except Exception as error:
        return Look(host, _closed(error), sees_locks)
    return Look(host, None, sees_locks)


def _closed(error: Exception) -> str:
    return f"{socket.gethostname()} cannot open the study ({error}); {WAY_OUT}"
