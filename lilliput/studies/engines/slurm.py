"""Slurm: the jobs as one array in a site's queue, by submitit, https://github.com/facebookincubator/submitit.

What the queue runs outlives the driver. Below the study's folder, slurm/ keeps its numbers, and what the jobs say: a
driver that comes back follows what is queued or runs, and submits again only what ended without being done.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, final

from lilliput.errors import BadSetting, wanted
from lilliput.studies.engines._away import Order, carry_out
from lilliput.studies.engines._engine import DEATHS, Engine, Event, Finished, Jobs, Needs, Started
from lilliput.system import signals
from lilliput.system.locks import locked
from lilliput.system.progress import Board, Message, say
from lilliput.system.records import read_json, write_json

CLUSTERS = ("slurm", "local")  # the second: processes of this machine, all at once, to try what a queue would do
NEEDS = ("cpus", "gpus", "memory_gib")
SUBMITITS = ("array_parallelism", "setup", "teardown", "signal_delay_s", "srun_args", "use_srun")  # not sbatch's
OWN = ("array", "error", "job_name", "nodes", "ntasks", "ntasks_per_node", "open_mode", "output", "requeue", "signal")
REQUEUES = 1000  # of one job at its limit of time; a run that is longer than that goes on each time
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_MESSAGES = 5.0  # of a job's progress
SECONDS_UNTIL_SEEN = {"slurm": 30.0, "local": 0.0}  # until a file of another machine is surely seen here
BEGUN = ""  # what a job says first


@final
class Slurm(Engine):
    """A queue; `words` are what it is asked for."""

    is_here = False

    def __init__(self, words: Mapping[str, Any]):
        """`words`: cpus, gpus and memory_gib of each job, time, what SUBMITITS names, and any long option of sbatch.

        BadSetting where one cannot be, or there is no queue here.
        """
        self.submitit = wanted("submitit", extra="slurm")
        self.cluster = words.get("cluster", "slurm")
        if self.cluster not in CLUSTERS:
            raise BadSetting(f"--slurm cluster={self.cluster} is none of {', '.join(CLUSTERS)}")
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise BadSetting(
                "there is no Slurm on this machine: sbatch and srun are not found; run this where they are"
            )
        self.needs = Needs.of({name: words[name] for name in NEEDS if name in words})
        self.parameters = _parameters(words, self.needs, self.cluster)
        self.workers = int(words.get("array_parallelism", 256))  # submitit's own

    def run(self, jobs: Jobs, make_shop: Callable[[], Any], board: Board, folder: Path) -> Iterator[Event]:
        try:
            if jobs:
                orders = {name: Order.of(name, job, make_shop, self.needs.threads) for name, job in jobs}
                yield from _Queue(self, folder.absolute() / "slurm", board).events(orders)
        finally:
            board.close()


def _parameters(words: Mapping[str, Any], needs: Needs, cluster: str) -> dict[str, Any]:
    """What submitit is given: its own names, and as further options those of sbatch."""
    if refused := sorted(set(words) & set(OWN)):
        raise BadSetting(f"--slurm {refused[0]} is not to be chosen: every cell is one task of one array")
    if needs.cpus != int(needs.cpus) or needs.gpus != int(needs.gpus):
        raise BadSetting(f"Slurm gives whole processors and GPUs, not {needs}")
    if cluster == "slurm" and "time" not in words:
        raise BadSetting("--slurm needs time=HH:MM:SS, the most that a job may take; a longer one goes on in another")
    others = {name: value for name, value in words.items() if name not in (*NEEDS, *SUBMITITS, "cluster", "time")}
    given = {
        "name": "lilliput",
        "timeout_min": minutes(words.get("time", 24 * 60)),
        "cpus_per_task": int(needs.cpus),
        "gpus_per_node": int(needs.gpus) or None,
        "mem_gb": needs.memory_gib,
        "slurm_additional_parameters": others or None,
    }
    for name in SUBMITITS:
        value: Any = words.get(name)
        given[f"slurm_{name}"] = int(value) if str(value).isdigit() else value
    for name in ("setup", "teardown"):  # lines of a shell
        given[f"slurm_{name}"] = [words[name]] if isinstance(words.get(name), str) else words.get(name)
    return {name: value for name, value in given.items() if value is not None}


def minutes(time: Any) -> int:
    """Of a time as sbatch takes it: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; a part counts as a whole one."""
    days, dash, rest = str(time).rpartition("-")
    try:
        parts = [int(part) for part in rest.split(":")]
        places = {(False, 1): (60,), (False, 2): (60, 1), (False, 3): (3600, 60, 1)}
        places |= {(True, 1): (3600,), (True, 2): (3600, 60), (True, 3): (3600, 60, 1)}
        units = places[bool(dash), len(parts)]
        seconds = (int(days) if dash else 0) * 86_400 + sum(
            part * unit for part, unit in zip(parts, units, strict=True)
        )
        if seconds <= 0:
            raise ValueError
    except (KeyError, ValueError):
        raise BadSetting(f"time {time!r} is none of sbatch's; give minutes, HH:MM:SS or D-HH:MM:SS") from None
    return -(-seconds // 60)


class _Queue:
    """A study's jobs with the queue: their numbers, and where each tells what it does."""

    def __init__(self, engine: Slurm, folder: Path, board: Board):
        self.engine, self.folder, self.board, self.submitit = engine, folder, board, engine.submitit
        (folder / "said").mkdir(parents=True, exist_ok=True)
        number = {f"{engine.cluster}_max_num_timeout": REQUEUES}
        self.executor = self.submitit.AutoExecutor(folder=folder, cluster=engine.cluster, **number)
        self.executor.update_parameters(**engine.parameters)
        self.jobs: dict[str, Any] = {}  # submitit's, of what has not ended
        self.read: dict[str, int] = {}  # bytes of what each has said
        self.deaths: Counter[str] = Counter()
        self.over: dict[str, float] = {}  # since when a job that left no result is known to have ended

    def events(self, orders: Mapping[str, Order]) -> Iterator[Event]:
        self._follow(orders)
        self._submit([order for name, order in orders.items() if name not in self.jobs])
        numbers, started = {name: number for number, name in enumerate(orders)}, set()
        while self.jobs:
            if signals.asked():
                arrays = sorted({job.job_id.partition("_")[0] for job in self.jobs.values()})
                end = f"; to end them: scancel {' '.join(arrays)}" if self.engine.cluster == "slurm" else ""
                say(f"the queue goes on with {len(self.jobs)} jobs; the same command follows them{end}")
                return
            dead = []
            for name, job in list(self.jobs.items()):
                for message in self._said(name):
                    if message == BEGUN or name not in started:
                        started.add(name)
                        yield Started(name)
                    if message != BEGUN:
                        self.board.hear(numbers[name], message)
                if not self._is_over(name, job):
                    continue
                self.board.rest(numbers[name])
                del self.jobs[name]
                if event := self._outcome(orders[name], job):
                    if name not in started:
                        yield Started(name)
                    yield event
                else:
                    dead.append(orders[name].after_a_death())
            self._submit(dead)
            time.sleep(SECONDS_BETWEEN_LOOKS if self.jobs else 0.0)

    def _follow(self, orders: Mapping[str, Order]) -> None:
        """Those of the jobs that an earlier driver has submitted and that have not ended."""
        kind = {"slurm": self.submitit.SlurmJob, "local": self.submitit.LocalJob}[self.engine.cluster]
        for name, number in self._ledger().items():
            if name in orders and not _has_ended(job := kind(folder=self.folder, job_id=number)):
                self.jobs[name] = job
        if self.jobs:
            say(f"{len(self.jobs)} jobs of before are queued or run: they are followed")

    def _ledger(self) -> dict[str, str]:
        """Name -> the queue's number of its last job."""
        path = self.folder / "jobs.json"
        return read_json(path).get(self.engine.cluster, {}) if path.exists() else {}

    def _submit(self, orders: list[Order]) -> None:
        if not orders:
            return
        for order in orders:
            self.read[order.name] = 0
            self._file_of(order.name).unlink(missing_ok=True)
        with locked(self.folder):  # else two drivers might forget each other's
            jobs = self.executor.submit_array([_Queued(order, self._file_of(order.name)) for order in orders])
            new = {order.name: job for order, job in zip(orders, jobs, strict=True)}
            numbers = {**self._ledger(), **{name: job.job_id for name, job in new.items()}}
            write_json(self.folder / "jobs.json", {self.engine.cluster: numbers})
        self.jobs |= new
        say(f"{len(new)} jobs submitted: {jobs[0].job_id.partition('_')[0]} of {self.engine.cluster}")

    def _file_of(self, name: str) -> Path:
        return self.folder / "said" / f"{name}.jsonl"

    def _said(self, name: str) -> Iterator[Message]:
        """What the job has said since the last look, in whole lines."""
        try:
            with open(self._file_of(name), "rb") as file:
                file.seek(self.read.get(name, 0))
                lines = file.read()
        except FileNotFoundError:
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        self.read[name] = self.read.get(name, 0) + len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            yield message if isinstance(message, str) else tuple(message)

    def _is_over(self, name: str, job: Any) -> bool:
        if not _has_ended(job):
            self.over.pop(name, None)
            return False
        since = self.over.setdefault(name, time.monotonic())
        return job.paths.result_pickle.exists() or time.monotonic() - since >= SECONDS_UNTIL_SEEN[self.engine.cluster]

    def _outcome(self, order: Order, job: Any) -> Finished | None:
        """None where it left no result, and is to be tried again."""
        del self.over[order.name]
        if job.paths.result_pickle.exists():
            try:
                return job.result()
            except Exception as error:  # submitit's, of what went wrong around the work
                lines = str(error).split("----------------------\n")
                return Finished(order.name, True, 0.0, " ".join(lines[1 % len(lines)].split()[-40:]), str(error))
        if job.state.startswith("CANCELLED"):
            return Finished(
                order.name, True, 0.0, f"its job {job.job_id} was cancelled; the same command goes on with it"
            )
        self.deaths[order.name] += 1
        why = f"its job {job.job_id} ended without a result ({job.state}); see {job.paths.stderr}"
        if self.deaths[order.name] >= DEATHS:
            return Finished(order.name, True, 0.0, f"{why}, {DEATHS} times")
        say(f"{order.name}: {why}; another goes on with it")
        return None


def _has_ended(job: Any) -> bool:
    """Whether the queue has done with it; of a process on this machine submitit knows only while its parent lives."""
    if job.paths.result_pickle.exists():
        return True
    if not job.done():
        return False
    if type(job).__name__ != "LocalJob":
        return True
    try:
        os.kill(int(job.job_id), 0)
    except ProcessLookupError:
        return True
    return False


class _Queued:
    """What submitit calls in the queue's job, and calls again after a pre-emption or at its limit of time."""

    def __init__(self, order: Order, said: Path):
        self.order, self.said, self.last, self.is_preempted = order, said, 0.0, False

    def __call__(self) -> Finished:
        submitit = wanted("submitit", extra="slurm")
        preempts = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        requeue: Any = signal.getsignal(preempts)  # submitit's: keeps `checkpoint`, asks for another turn, and ends
        signals.obey(preempts, signal.SIGTERM, signal.SIGINT)
        obey: Any = signal.getsignal(preempts)

        def preempt(number: int, frame: FrameType | None) -> None:
            self.is_preempted = True
            obey(number, frame)

        signal.signal(preempts, preempt)
        self._send(BEGUN)
        began_before = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        finished = carry_out(self.order.after_a_death() if began_before else self.order, self._send)
        if finished.stopped or (finished.elsewhere and self.is_preempted):
            if self.is_preempted:
                requeue(preempts, None)
            sys.exit(1)  # without a result: it is not done
        return finished

    def checkpoint(self) -> Any:
        """What is done in the next turn: the same, which goes on from what it saved."""
        submitit = wanted("submitit", extra="slurm")
        return submitit.helpers.DelayedSubmission(_Queued(self.order.after_a_death(), self.said))

    def _send(self, message: Message) -> None:
        now = time.monotonic()
        if not isinstance(message, str) and now - self.last < SECONDS_BETWEEN_MESSAGES:
            return
        self.last = self.last if isinstance(message, str) else now
        # what cannot be told costs no work
        with suppress(OSError), open(self.said, "a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")
