"""How fast trainings are on an idle machine, measured once and kept: a training of so many seconds is then one of so
many steps, whatever else the machine does while it trains."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import throughput
from benchmarks.idle import wait_until_idle
from lilliput.system.files import write_whole

BESIDE = 0.05  # of its own, that others may take of the cores while a speed is measured
LEAST, MOST, ALIKE = 3, 8, 0.97  # windows, and how near the second must come to the quickest


class Speed(NamedTuple):
    """Of a training: the quickest of some windows of seconds, as whatever disturbs an idle machine (other guests of its
    host) only slows it; and the plan that it ran by."""

    images_per_s: float
    plan: dict[str, Any]  # as --plan takes it


def windows(steps: Iterator[int], *, drained: int) -> list[float]:
    """Images a second of an endless run, several times, until the two quickest agree."""
    found = [throughput.images_per_s(steps, drained=drained)]
    while len(found) < LEAST or (len(found) < MOST and sorted(found)[-2] < ALIKE * max(found)):
        found.append(throughput.images_per_s(steps, drained=0))
    return [round(rate, 1) for rate in found]


def known(file: Path, key: str, words: list[str], side: str, *, may_measure: bool = True) -> Speed:
    """What the file says of this key, else what is measured now and written there.

    Measured by a process of its own, with the memory settings of its side: `python -m` and these words must print
    {"windows": images a second, "plan": a plan} in its last line. SystemExit where it fails or may not be measured, and
    where the file's speeds are those of another machine: seconds of two machines are not equal.
    """
    if key not in (told := _told(file))["speeds"]:
        if told["machine"] != machine():
            raise SystemExit(f"{file} has the speeds of {told['machine']}, and this is {machine()}: another --out")
        if not may_measure:
            raise SystemExit(f"{file} has no speed of {key}: measure it first, by --speeds")
        with alone(file.with_suffix(".lock")):  # two that measure side by side would both be slow
            if key not in _told(file)["speeds"]:
                found = _measured(key, words, side)
                told = _told(file)
                told["speeds"][key] = found
                write_whole(file, f"{json.dumps(told, indent=1, sort_keys=True)}\n".encode())
    entry = _told(file)["speeds"][key]
    return Speed(max(entry["windows"]), entry["plan"])


def _told(file: Path) -> dict[str, Any]:
    told = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"machine": machine(), "speeds": {}}
    if "speeds" not in told:
        raise SystemExit(f"{file} is of an earlier form, without machine and plans: another --out")
    return told


def _measured(key: str, words: list[str], side: str) -> dict[str, Any]:
    """By a process that had the machine to itself; again where another was at work beside it."""
    command = [sys.executable, "-m", *words]
    while True:
        wait_until_idle()
        busy, own = _busy(), _of_children()
        done = subprocess.run(command, env=throughput.environment(side), stdout=subprocess.PIPE, text=True)
        busy, own = _busy() - busy, _of_children() - own
        if done.returncode:
            raise SystemExit(f"the speed of {key} could not be measured")
        if busy - own <= BESIDE * own:
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found
        print(f"others took {busy - own:.0f} s of the cores while {key} was measured: once more", flush=True)


def _busy() -> float:
    """Seconds that the machine's cores were at work."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


def _of_children() -> float:
    """And at work for children of this process that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


@contextmanager
def alone(file: Path, *, wait: bool = True) -> Iterator[int | None]:
    """Hold a lock of this name among the processes of this machine: its file descriptor, to be passed to a child that
    is to hold it too; None where it may not be waited for and another has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield lock.fileno()


def machine() -> str:
    from lilliput.system.machine import cores, processor

    return f"{processor()}, {cores()} cores"
