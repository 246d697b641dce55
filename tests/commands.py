"""Commands in processes of their own: forks of a server that has imported torch already, which takes seconds."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ENDED = 30  # seconds within which a killed process must be gone


class Command:
    """`lilliput` with these words, started: as subprocess.Popen, with its words captured."""

    def __init__(self, *words: object, cwd: Path | None = None, **variables: str):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lilliput.api"])
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("out", "err")]
        environment = {"GLIBC_TUNABLES": "", **os.environ, **variables}  # set, a command does not start anew for them
        arguments = ([str(word) for word in words], environment, str(cwd or Path.cwd()), self._files)
        self._process = context.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it said on stdout and stderr, once it has ended."""
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise subprocess.TimeoutExpired("lilliput", timeout)
        out, err = (file.read_bytes().decode() if file.exists() else "" for file in self._files)
        return out, err

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join(ENDED)
        self._folder.cleanup()


def lilliput(*words: object, timeout: float = 300, **named) -> subprocess.CompletedProcess:
    """The command run to its end; `named`: cwd and variables of its environment."""
    with Command(*words, **named) as command:
        out, err = command.communicate(timeout)
        return subprocess.CompletedProcess(words, command.returncode, out, err)


def _run(words: list[str], environment: dict[str, str], cwd: str, files: list[Path]) -> None:
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.current_process()._config["daemon"] = False
    import torch

    from lilliput.cli import main

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    sys.argv = ["lilliput", *words]
    sys.exit(main(words))
