"""Windows and macOS, as far as they can be had on Linux: without what only Linux or POSIX has.

A run is really made in a Python that lacks all of it for us, as for others it must stay (torch, subprocess).
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import lilliput
from lilliput.system import machine
from tests.conftest import labelled_folder

HOME = Path(lilliput.__file__).parent
MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")  # that Windows has not
OF_OS = (  # nor these, and macOS not the second row
    *("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg", "mkfifo", "nice", "setsid", "sysconf"),
    *(
        "posix_fallocate",
        "sched_getaffinity",
        "sched_setaffinity",
        "statvfs",
        "uname",
        "wait",
        "O_NONBLOCK",
        "O_DIRECT",
    ),
    *("fdatasync", "getloadavg", "pread", "pwrite", "register_at_fork", "set_blocking"),
)
OF_SIGNAL = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2", "setitimer", "pthread_sigmask")
# what torch, psutil and the standard library here cannot do without
FOR_OTHERS = ("fork", "uname", "register_at_fork", "set_blocking", "statvfs", "sysconf", "getuid", "SIGKILL", "SIGHUP")
HIDING = f"""
import builtins, multiprocessing, os, pathlib, signal, sys
import multiprocessing.context, multiprocessing.util, subprocess, tempfile
usual = builtins.__import__

def hiding(name, globals=None, *rest, **named):
    if name in {MODULES!r} and (globals or {{}}).get("__name__", "").startswith("lilliput"):
        raise ImportError(f"no module {{name}} here")
    return usual(name, globals, *rest, **named)

builtins.__import__ = hiding
for owner, names in ((os, {[n for n in OF_OS if n not in FOR_OTHERS]!r}),
                     (signal, {[n for n in OF_SIGNAL if n not in FOR_OTHERS]!r})):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]

class Linuxless(pathlib.PosixPath):
    def read_text(self, *words, **named):
        if str(self).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "no such folder here", str(self))
        return super().read_text(*words, **named)

    def exists(self):
        return not str(self).startswith(("/proc", "/sys")) and super().exists()

pathlib.Path = pathlib.PosixPath = Linuxless
"""
TRIED = """
import sys
from lilliput.system import locks, machine, signals
assert not locks.has_locks() and machine.resource is None and len(signals.LISTENED) == 2, signals.LISTENED
from lilliput.cli import main
tiny = "--image-size 32 --limit 32 --epochs 1 --batch 16 --width 0.25 --device cpu --plan precision=fp32".split()
assert main(["pretrain", "simclr", "shufflenet_v2", "--data", "labelled", "--out", "run", *tiny]) == 0
assert main(["probe", "run", "--data", "labelled", "--probes", "knn"]) == 0
assert main(["doctor"]) == 0
print("portable")
"""


def test_a_run_is_made_and_judged_where_there_is_only_what_all_systems_have(tmp_path):
    labelled_folder(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(HIDING, encoding="utf-8")
    paths = [str(tmp_path), str(HOME.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", TRIED]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "portable", done.stderr
    assert (tmp_path / "run" / "encoder_001.safetensors").exists()


def test_what_not_every_system_has_is_asked_for_first():
    """`os.sched_getaffinity` beside no `hasattr` for it in the same function, an import of fcntl without a way out."""
    careless = []
    for path in HOME.rglob("*.py"):
        tree = ast.parse(path.read_bytes())
        guarded = {
            id(node)
            for tried in ast.walk(tree)
            if isinstance(tried, ast.Try)
            for body in tried.body
            for node in ast.walk(body)
        }
        for function in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]:
            for node in ast.walk(function):
                match node:
                    case ast.Import(names=names) if {n.name for n in names} & set(MODULES) and id(node) not in guarded:
                        careless.append(f"{path.name}:{node.lineno}")
                    case ast.ImportFrom(module=module) if module in MODULES and id(node) not in guarded:
                        careless.append(f"{path.name}:{node.lineno}")
                    case ast.Attribute(value=ast.Name(id="os" | "signal" as owner), attr=name):
                        if name in (*OF_OS, *OF_SIGNAL) and f"hasattr({owner}, '{name}')" not in ast.unparse(function):
                            careless.append(f"{path.name}:{node.lineno} {owner}.{name}")
    assert careless == []


def test_memory_is_known_where_linux_does_not_tell(monkeypatch, tmp_path):
    """An Intel Mac was taken to have memory without end, so a worker began for each core."""
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(machine, "STATUS", tmp_path / "none")
    assert 2**20 < machine.available_bytes() < 2**50
    assert machine.peak_bytes() > 2**20
    monkeypatch.setattr(machine, "resource", None)
    assert machine.peak_bytes() == 0  # Windows alone keeps it in psutil
