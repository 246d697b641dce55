"""How fast trainings are on an idle machine, measured once and kept: a training of so many seconds is then one of so
many steps, whatever else the machine does while it trains."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import throughput
from benchmarks.idle import wait_until_idle

WINDOWS = 3


class Speed(NamedTuple):
    """Of a training: the median over windows of some seconds each, and the plan that it ran by."""

    images_per_s: float
    plan: dict[str, Any]  # as --plan takes it


def windows(steps: Iterator[int], *, drained: int) -> list[float]:
    """Images a second of an endless run, several times."""
    return [throughput.images_per_s(steps, drained=0 if number else drained) for number in range(WINDOWS)]


def known(file: Path, key: str, words: list[str], side: str) -> Speed:
    """What the file says of this key, else what is measured now and written there.

    Measured by a process of its own, with the memory settings of its side: `python -m` and these words must print
    {"windows": images a second, "plan": a plan} in its last line. SystemExit where it fails, and where the file's
    speeds are those of another machine: seconds of two machines are not equal.
    """
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    told = told or {"machine": machine(), "speeds": {}}
    if key not in told["speeds"]:
        if told["machine"] != machine():
            raise SystemExit(f"{file} has the speeds of {told['machine']}, and this is {machine()}: another --out")
        wait_until_idle()
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, env=throughput.environment(side), stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"the speed of {key} could not be measured")
        found = json.loads(done.stdout.splitlines()[-1])
        told["speeds"][key] = {"images_per_s": round(statistics.median(found["windows"]), 1), **found}
        file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    entry = told["speeds"][key]
    return Speed(entry["images_per_s"], entry["plan"])


def machine() -> str:
    from lilliput.system.machine import cores, processor

    return f"{processor()}, {cores()} cores"
