"""Jobs that other processes do in tests, and what they wait for: few imports, since each process has them anew."""

import os
import signal
import time
from pathlib import Path

from lilliput.system import signals
from lilliput.system.locks import alone

SECONDS = 180  # within which what is waited for must have come


def here(folder):
    return Path(folder)


def mark(name, folder):
    """A line for each time that the job was done."""
    with open(folder / name, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    return True


def fail(folder):
    raise RuntimeError("two\nlines")


def die_once(folder):
    """Killed after half of its work, which the next worker finds."""
    if not (folder / "half").exists():
        (folder / "half").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark("whole", folder)


def alone_in(name, folder):
    (folder / name).mkdir(exist_ok=True)
    with alone(folder / name):
        return mark("taken", folder)


def until_asked(folder):
    """Works on until it is asked to stop; the second time it has not much left."""
    if (folder / "saved").exists():
        return mark("whole", folder)
    (folder / "pid").write_text(str(os.getpid()))
    wait_for(signals.asked)
    (folder / "saved").touch()
    raise signals.Stopped("stopped")


def until_let_go(folder):
    mark("begun", folder)
    wait_for((folder / "go").exists)
    return True


def wait_for(there):
    end = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
