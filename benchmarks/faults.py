"""Kill studies at random moments and see that what goes on afterwards ends with the same bits as if nothing had been.

python -m benchmarks.faults [--kills 200] [--techniques ...] [--seed 0]

Each technique is pretrained, judged and reported in a small study, once undisturbed and then over and over: SIGKILL
somewhere within a random step of training, probe or report, or just before or after a random one of the study's file
operations; then the same call again, killed up to four times, and left to end. Compared are encoders, states, logs and
rows, all but their times and energies. Every process is a fork of this one, so that no time is spent on imports.
"""

import argparse
import builtins
import hashlib
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lilliput import api
from lilliput.datasets import open_data
from lilliput.reports import tables
from lilliput.reports.page import page
from lilliput.studies import judge, results
from lilliput.system.tensors import read_tensors
from lilliput.training import loop
from lilliput.training.record import read_log
from lilliput.training.spending import SPENT

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork must not inherit a team of threads

from lilliput import catalog
from lilliput.data.store import Data

VARIES = {"seconds", "images_per_s", "peak_memory_mib", *SPENT}
PHASES = ("starting", "training", "saving", "probing", "reporting")
PLAN = {"precision": "fp32", "channels_last": True, "threads": 1}
MOST_KILLS = 4  # before a study is left to end
PAGED = 0.25  # of the studies


@dataclass(frozen=True)
class Work:
    """A small study, and its page where it is `paged`."""

    technique: str
    data: Data
    paged: bool
    epochs: int = 4

    def __call__(self, out: Path) -> None:
        api.study(
            self.data,
            out,
            techniques=[self.technique],
            backbones=["shufflenet_v2"],
            seeds=[0],
            epochs=self.epochs,
            every=2,
            batch=16,
            plan=PLAN,
            device="cpu",
        )
        if self.paged:
            page.write_page(out, self.data.judging)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--techniques", nargs="+", default=list(catalog.TECHNIQUES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    data = few_images()
    kills: Counter[str] = Counter()
    trials = different = 0
    with tempfile.TemporaryDirectory() as folder:
        for technique, wanted in shares(options.kills, options.techniques):
            tally = kill_studies(technique, data, Path(folder), wanted, rng)
            by_phase = ", ".join(f"{phase} {tally.kills[phase]}" for phase in PHASES if tally.kills[phase])
            print(f"{technique}: killed {wanted} times ({by_phase})", flush=True)
            kills += tally.kills
            trials, different = trials + tally.trials, different + tally.different
    by_phase = ", ".join(f"{kills[phase]} while {phase}" for phase in PHASES)
    print(f"{kills.total()} kills ({by_phase})")
    print(f"{trials} studies went on to their end, {different} of them with other bits")
    sys.exit(1 if different else 0)


def shares(kills: int, techniques: list[str]) -> list[tuple[str, int]]:
    """The kills of each technique, as even as may be."""
    bounds = [kills * number // len(techniques) for number in range(len(techniques) + 1)]
    return [(technique, bounds[i + 1] - bounds[i]) for i, technique in enumerate(techniques)]


@dataclass
class Tally:
    """What became of a technique's studies."""

    kills: Counter[str] = field(default_factory=Counter)  # by phase
    trials: int = 0
    different: int = 0  # of the trials, with other bits than the undisturbed study


def kill_studies(technique: str, data: Data, folder: Path, wanted: int, rng: random.Random) -> Tally:
    """One study undisturbed, then as many more as it takes for the wanted kills; differences are printed."""
    whole, tally = folder / technique, Tally()
    counts, seconds = undisturbed(Work(technique, data, paged=True), whole)
    while tally.kills.total() < wanted:
        tally.trials += 1
        out = folder / f"{technique}-{tally.trials}"
        work = Work(technique, data, paged=rng.random() < PAGED)
        for _ in range(min(wanted - tally.kills.total(), rng.randint(1, MOST_KILLS))):
            if phase := disturbed(work, out, rng, counts, seconds):
                tally.kills[phase] += 1
        differences = ended_otherwise(work, out, whole)
        tally.different += bool(differences)
        for difference in differences:
            print(f"DIFFERENT {technique}: {difference}")
    return tally


def ended_otherwise(work: Work, out: Path, whole: Path) -> list[str]:
    """Let the study in `out` end, and say what differs from the undisturbed one in `whole`."""
    status = os.waitpid(fork(partial(work, out)), 0)[1]
    expected = digests(whole, paged=work.paged)
    actual = digests(out, paged=work.paged) if status == 0 else {"ends": f"with status {status}"}
    names = sorted({*expected, *actual})
    return [
        f"{name}: {actual.get(name)} instead of {expected.get(name)}"
        for name in names
        if expected.get(name) != actual.get(name)
    ]


def few_images() -> Data:
    data = open_data("scenes", image_size=32, limit=64)
    train, test = data.judging
    return data._replace(train=train.take(range(0, len(train), 8)), test=test.take(range(0, len(test), 16)))


def undisturbed(work: Work, out: Path) -> tuple[dict[str, int], float]:
    """How often each phase is entered, and how many file operations there are; and seconds."""
    shared = Shared()
    began = time.perf_counter()
    status = os.waitpid(fork(partial(work, out), shared), 0)[1]
    if status:
        sys.exit(f"{work.technique} did not end even undisturbed (status {status})")
    return {phase: shared.count(phase) for phase in PHASES}, time.perf_counter() - began


def disturbed(work: Work, out: Path, rng: random.Random, counts: dict[str, int], seconds: float) -> str | None:
    """Start or go on, and kill; what it was doing, or None if it ended before."""
    phase = rng.choice([phase for phase in PHASES[1:] if work.paged or phase != "reporting"])
    after = rng.uniform(0, 0.05) if phase != "reporting" else rng.uniform(0, seconds / 2)
    shared = Shared(phase, rng.randint(1, counts[phase]), after)
    status = os.waitpid(fork(partial(work, out), shared), 0)[1]
    return shared.phase if os.WIFSIGNALED(status) else None


class Shared:
    """What a fork tells its parent: the phase that it is in, and how often each was entered; and when it must die."""

    def __init__(self, fatal: str = "", number: int = 0, after: float = 0.0):
        self.memory = mmap.mmap(-1, 8 * (len(PHASES) + 1))
        self.fatal, self.number, self.after = fatal, number, after

    @property
    def phase(self) -> str:
        return PHASES[self.memory[0]]

    def count(self, phase: str) -> int:
        place = 8 * (PHASES.index(phase) + 1)
        return int.from_bytes(self.memory[place : place + 8], "little")

    def enter(self, phase: str) -> int:
        """Be in that phase; what it was before."""
        before, place, number = self.memory[0], 8 * (PHASES.index(phase) + 1), self.count(phase) + 1
        self.memory[0] = PHASES.index(phase)
        self.memory[place : place + 8] = number.to_bytes(8, "little")
        if phase == self.fatal and number == self.number:
            if phase != "saving":
                threading.Timer(self.after, os.kill, [os.getpid(), signal.SIGKILL]).start()
            elif self.after < 0.025:
                os.kill(os.getpid(), signal.SIGKILL)
        return before

    def leave(self, before: int) -> None:
        if PHASES[self.memory[0]] == self.fatal == "saving" and self.count("saving") == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        self.memory[0] = before

    def within(self, phase: str, function: Callable, concerns: Callable[..., bool] | None = None) -> Callable:
        """The function, which is that phase wherever it is called so that it `concerns`."""

        def entering(*args: Any, **named: Any) -> Any:
            if concerns and not concerns(*args, **named):
                return function(*args, **named)
            before = self.enter(phase)
            try:
                return function(*args, **named)
            finally:
                self.leave(before)

        return entering


def fork(work: Callable[[], Any], shared: Shared | None = None) -> int:
    """A process that does the work, silently; as `shared` has it, not to its end."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if shared:
            _watch(shared)
        work()
        status = 0
    finally:
        os._exit(status)


def _watch(shared: Shared) -> None:
    """Saving is every single operation that changes a file."""
    phases = (
        ("training", loop.Learner, "step"),
        ("probing", judge.Judge, "rows"),
        ("reporting", tables, "write_tables"),
        ("reporting", page, "write_report"),
    )
    for phase, owner, name in phases:
        setattr(owner, name, shared.within(phase, getattr(owner, name)))
    for name in ("replace", "fsync", "mkdir", "unlink", "rename"):
        setattr(os, name, shared.within("saving", getattr(os, name)))

    def writes(_path: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
        return any(letter in mode for letter in "wax+")

    builtins.open = shared.within("saving", builtins.open, writes)


def digests(out: Path, *, paged: bool) -> dict[str, str]:
    """Of all that a study must have in the end, and of what must not be left."""
    content = {path.relative_to(out).as_posix(): of_tensors(path) for path in sorted(out.rglob("*.safetensors"))}
    for path in sorted(out.rglob("run.json")):
        log = [{k: v for k, v in row.items() if k not in VARIES} for row in read_log(path.parent)]
        content[f"{path.parent.relative_to(out)}/log.jsonl"] = of(log)
    for folder in (out, out / "inspect") if paged else (out,):
        content[f"{folder.relative_to(out)}/results.csv"] = of(measured_rows(folder))
        content[f"{folder.relative_to(out)}/damaged rows"] = str(results.damaged_lines(folder / "results.csv"))
    page_files = {"inspect", "report.html", "saliency.png"}
    content["files"] = str(sorted({path.name for path in out.glob("[!.]*")} - (set() if paged else page_files)))
    left = [path.name for path in out.rglob("*") if ".damaged" in path.name or path.name == "error.txt"]
    content["left behind"] = str(left)
    return content


def of_tensors(path: Path) -> str:
    """The digest of a safetensors file's numbers, and of the part of its header that does not vary."""
    tensors, header = read_tensors(path)
    digest = hashlib.sha256(json.dumps({key: header.get(key) for key in ("epoch", "step", "technique")}).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(str(tensor.float().tolist()).encode() if tensor.numel() < 2 else tensor.numpy().tobytes())
    return digest.hexdigest()


def measured_rows(folder: Path) -> list[tuple[str, ...]]:
    """The rows of a study, in order, without what varies from run to run."""
    rows = results.read(folder)[[*results.KEY, "value", "flagged"]].astype(str)
    return sorted(map(tuple, rows.to_numpy().tolist()))


def of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main()
