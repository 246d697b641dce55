"""Nobody is called and nothing is sent: commands as a user gives them, overheard in every process that they start.

Twice. Python tells a hook of every name that is looked up and every address that is called. And in a network namespace
without any interface the kernel counts what found no way out: that also hears libraries that are not Python.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from lilliput import tracking

HOOK = """
import os, sys
from pathlib import Path

def note(name, line):
    with open(Path(__file__).with_name(name), "a") as file:
        file.write(line + "\\n")

def hear(event, arguments):
    if not event.startswith("socket.") or event in ("socket.__new__", "socket.gethostname"):
        return
    if event == "socket.bind" and arguments[1:] == (("::1", 0),):
        return  # urllib3, when imported, tries whether there is IPv6; nothing leaves
    if getattr(arguments[0], "family", None) != 1:  # AF_UNIX: how processes of one machine talk
        note("calls", f"{event} {arguments[1:] if hasattr(arguments[0], 'family') else arguments} of {sys.orig_argv}")

note("processes", f"{os.getpid()} {sys.orig_argv}")
sys.addaudithook(hear)
"""
CODECARBON = """[codecarbon]
output_methods = api,prometheus
save_to_api = true
emissions_endpoint = http://192.0.2.1/
api_endpoint = http://192.0.2.1/
electricitymaps_api_token = token
co2_signal_api_token = token
country_2letter_iso_code = DE
"""
TINY = ["--image-size", "32", "--limit", "64", "--epochs", "1", "--batch", "16", "--plan", "precision=fp32"]


class Heard(NamedTuple):
    calls: list[str]
    processes: int
    stdout: str


class Listener:
    """A user with a folder and a home of their own; the home has codecarbon configured to send whatever it can."""

    def __init__(self, folder: Path):
        self.folder, self.hook = folder, folder / "hook"
        self.hook.mkdir(parents=True)
        (self.hook / "sitecustomize.py").write_text(HOOK)
        (folder / ".codecarbon.config").write_text(CODECARBON)
        repository = Path(__file__).parents[1]
        self.environment = os.environ | {
            "HOME": str(folder),
            "LILLIPUT_HOME": str(folder / "lilliput"),
            "PYTHONPATH": os.pathsep.join([str(self.hook), str(repository)]),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *words: str, wrapper: tuple[str, ...] = ()) -> Heard:
        for name in ("calls", "processes"):
            (self.hook / name).write_text("")
        done = subprocess.run(
            [*wrapper, sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        calls, processes = ((self.hook / name).read_text().splitlines() for name in ("calls", "processes"))
        return Heard(calls, len({line.split()[0] for line in processes}), done.stdout)

    def lilliput(self, *words: str, **options) -> Heard:
        return self.run("-m", "lilliput", *words, **options)

    def images(self) -> str:
        """20 images to learn from and 5 to judge by, of each of three classes."""
        rng = np.random.default_rng(0)
        for split, count in (("train", 20), ("test", 5)):
            for name in "abc":
                folder = self.folder / "images" / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        return "images"


@pytest.fixture
def listener(tmp_path):
    return Listener(tmp_path)


@pytest.fixture(scope="module")
def cut_off():
    """Runs a command where there is no network, then prints how many packets found no way out."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make a network namespace")
    return "unshare", "-rn", "sh", "-c", '"$@" || exit 1; grep ^Ip: /proc/net/snmp', "sh"


def lost_packets(stdout):
    names, numbers = re.findall(r"^Ip: (.*)$", stdout, re.MULTILINE)
    return int(dict(zip(names.split(), numbers.split(), strict=True))["OutNoRoutes"])


CALL = """
import multiprocessing, socket, subprocess, sys
def call():
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))
    with socket.socket(type=socket.SOCK_DGRAM) as two:
        try: two.sendto(b"", ("127.0.0.1", 9))
        except OSError: pass
        try: two.bind(("127.0.0.1", 0))
        except OSError: pass
    try: socket.getaddrinfo("127.0.0.1", 9)
    except OSError: pass
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=call)
    worker.start()
    worker.join()
"""


def test_the_listener_hears_a_call_from_a_process_of_a_process(listener):
    (listener.folder / "caller.py").write_text(CALL)
    heard = listener.run("caller.py")
    assert [line.split()[0] for line in heard.calls] == [
        "socket.connect",
        "socket.sendto",
        "socket.bind",
        "socket.getaddrinfo",
    ]
    assert heard.processes >= 2


def test_the_kernel_counts_a_call_that_finds_no_way(listener, cut_off):
    (listener.folder / "caller.py").write_text(CALL)
    assert lost_packets(listener.run("caller.py", wrapper=cut_off).stdout) >= 2
    assert lost_packets(listener.run("-c", "pass", wrapper=cut_off).stdout) == 0


def test_a_listing_and_a_run_call_nobody(listener):
    """A user's configuration of codecarbon for other work once made ours send and ask, too."""
    assert listener.lilliput("list").calls == []
    heard = listener.lilliput("pretrain", "rotnet", "shufflenet_v2", "--data", listener.images(), "--out", "r", *TINY)
    assert heard.calls == [] and (listener.folder / "r" / "encoder_001.safetensors").exists()


def test_a_run_needs_no_network(listener, cut_off):
    words = "pretrain", "rotnet", "shufflenet_v2", "--data", listener.images(), "--out", "r", *TINY
    assert lost_packets(listener.lilliput(*words, wrapper=cut_off).stdout) == 0
    assert (listener.folder / "r" / "encoder_001.safetensors").exists()


STUDY = "study", "--techniques", "simclr", "--backbones", "squeezenet", "--out", "s", *TINY


@pytest.mark.heavy
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_study_with_its_report_and_all_that_follows_call_nobody(listener, workers):
    study = listener.lilliput(*STUDY, "--workers", workers)
    assert study.calls == [] and study.processes >= int(workers)
    assert (listener.folder / "s" / "report.html").exists()
    commands = (
        ["report", "s"],
        ["compare", "s", "paper"],
        ["probe", "s/cells/simclr-squeezenet-0", "--probes", "linear", "knn", "finetune"],
        ["export", "s/cells/simclr-squeezenet-0", "--to", "onnx", "--int8", "--data", "photographs"],
        ["export", "s/cells/simclr-squeezenet-0", "--to", "hub"],
        ["pretrain", "byol", "shufflenet_v2", "--out", "r", *TINY],
        ["pretrain", "byol", "timm/mobilenetv3_small_050", "--out", "t", *TINY],
        ["prepare", "scenes", "--image-size", "48"],
    )
    assert [listener.lilliput(*words).calls for words in commands] == [[]] * len(commands)


@pytest.mark.heavy
def test_a_study_needs_no_network(listener, cut_off):
    assert lost_packets(listener.lilliput(*STUDY, "--workers", "2", wrapper=cut_off).stdout) == 0
    assert (listener.folder / "s" / "report.html").exists()
    assert lost_packets(listener.lilliput("report", "s", wrapper=cut_off).stdout) == 0


@pytest.mark.heavy
@pytest.mark.parametrize("tracker", tracking.TRACKERS)
def test_a_tracker_calls_nobody_unless_its_environment_says_so(listener, cut_off, tracker):
    """Those of its own process on this machine aside: 127.0.0.1 is none of the packets that found no way out."""
    pytest.importorskip(tracker)
    words = "pretrain", "rotnet", "shufflenet_v2", "--data", listener.images(), "--track", tracker, *TINY
    heard = listener.lilliput(*words, "--out", "r")
    assert [call for call in heard.calls if "'127.0.0.1'" not in call and "'localhost'" not in call] == []
    assert (listener.folder / "r" / "tracking" / f"{tracker}.json").exists()
    assert lost_packets(listener.lilliput(*words, "--out", "q", wrapper=cut_off).stdout) == 0
    assert '"epoch": 1' in (listener.folder / "q" / "tracking" / f"{tracker}.json").read_text(encoding="utf-8")
