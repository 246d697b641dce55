"""One thread (two test runs on one machine would fight over cores), a home of its own for every test, few scenes.

And what the tests of runs and studies share: small settings, finished and killed ones, and ways to harm them.
"""

import gc
import itertools
import shutil
import socket
import threading
from contextlib import suppress

import hypothesis  # noqa: F401 (imported, it looks for what holds its sources of chance, and sees nothing frozen)
import numpy as np
import pytest
import torch
from PIL import Image

from lilliput import api
from lilliput.catalog.files import VARIABLE
from lilliput.system.plan import Plan
from lilliput.system.tensors import read_tensors
from lilliput.training import run as training_run
from lilliput.training.record import read_log
from lilliput.training.spending import SPENT

torch.set_num_threads(1)

CPU = Plan("cpu", "fp32", channels_last=False)
PLAN = {"precision": "fp32", "channels_last": True}  # fixed, so that no test measures one
SMALL = {"epochs": 3, "batch": 16, "every": 1, "device": "cpu", "plan": PLAN}  # of a run or study that takes seconds
NARROW = {**SMALL, "width": 0.25}
TECHNIQUES = ("rotnet", "moco_v2", "split_brain", "simclr", "byol")
HEAVIER = (  # backbones of which the usual tests do no more than build them and pass images once
    "densenet121",
    "efficientvit_m0",
    "fastvit_t8",
    "mobilenetv3_large_100",
    "mobileone_s0",
    "resnet101",
    "resnet50",
    "vgg11_bn",
)
LONGEST = ("test_contract", "test_learning", "test_reliability", "test_page", "test_guests", "test_loop", "test_run")
VARYING = {"seconds", "images_per_s", "peak_memory_mib", *SPENT}  # from run to run


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def heavy(*values):
    """Parameters for `pytest -m heavy` alone."""
    return [pytest.param(value, marks=pytest.mark.heavy) for value in values]


def each_backbone(names):
    """As parameters, the heavier ones for `pytest -m heavy` alone."""
    return [*(name for name in names if name not in HEAVIER), *heavy(*(name for name in names if name in HEAVIER))]


def saved_bits(run):
    """File -> name -> bytes of the tensors of a run's encoders and states."""
    files = {path.name: read_tensors(path)[0] for path in run.glob("*.safetensors")}
    return {name: {key: value.numpy().tobytes() for key, value in tensors.items()} for name, tensors in files.items()}


def measured_log(run):
    """The log without what differs from run to run: time, energy, memory."""
    return [{key: value for key, value in row.items() if key not in VARYING} for row in read_log(run)]


def interrupt_at(patch, module, name, call):
    """Let the function `name` of a module raise KeyboardInterrupt at its call of that number, counted from 1."""
    usual, calls = getattr(module, name), itertools.count(1)

    def interrupted(*arguments, **named):
        if next(calls) == call:
            raise KeyboardInterrupt
        return usual(*arguments, **named)

    patch.setattr(module, name, interrupted)


def flip_bit(path, place=None, bit=2):
    """Of the byte at `place`, or in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1 << bit
    path.write_bytes(content)


def labelled_folder(folder):
    """A labelled folder of two classes, twenty images each to fit and to test."""
    draw = np.random.default_rng(0)
    for split, kind, number in itertools.product(("train", "test"), ("dark", "light"), range(20)):
        place = folder / "labelled" / split / kind
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 128, (32, 32, 3)) + 127 * (kind == "light")
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder / "labelled"


def pytest_collection_modifyitems(items):
    """Files that take a minute first, for a file is one worker's; in the order of the others."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def pytest_collection_finish():
    """What is imported by now stays: no run's collection of garbage need look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv(VARIABLE, "")  # what a test takes of its own, no other knows
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """48 unlabelled scenes of 32 px, 200 to train probes on and 100 to test."""
    from lilliput import catalog

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalog.dataset("scenes")(image_size=32, limit=48, train_count=200, test_count=100)


@pytest.fixture(scope="session")
def finished_run(scenes, tmp_path_factory):
    """SimCLR on a narrow ResNet-18, three epochs; not to be changed, and in the end it is looked whether it was."""
    run = api.pretrain("simclr", "resnet18", scenes, tmp_path_factory.mktemp("finished") / "run", **NARROW)
    before = times_of(run)
    yield run
    assert times_of(run) == before


def times_of(folder):
    """When each of its files was last written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def killed_once(scenes, tmp_path_factory):
    """A run of the same settings that was killed when the state of epoch 2 was about to be written."""
    out = tmp_path_factory.mktemp("killed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, training_run, "save_state", 3)
        with pytest.raises(KeyboardInterrupt):
            api.pretrain("simclr", "resnet18", scenes, out, **NARROW)
    return out


@pytest.fixture
def killed_run(killed_once, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(killed_once, tmp_path / "killed")


@pytest.fixture(scope="session")
def rotnet_study(scenes, tmp_path_factory):
    """RotNet on ShuffleNet, three epochs, all of them judged; not to be changed."""
    out = tmp_path_factory.mktemp("study") / "s"
    api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    return out


class Proxy:
    """Passes connections on to a server; the next one is cut after `cuts[0]` bytes of the answer, or of the question
    where that is negative. `down`: takes none.

    A question whose head is torn is not passed on: moto obeys it, while a store would miss its signature.
    """

    def __init__(self, address):
        self.address, self.cuts, self.down = address, [], False
        self.socket, self.threads = socket.create_server(("127.0.0.1", 0)), []
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self._begin(self._accept)

    def _begin(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self.threads.append(thread)  # started, for `close` may wait for it at once
        return thread

    def _accept(self):
        with suppress(OSError):
            while True:
                ours = self.socket.accept()[0]
                if self.down:
                    ours.close()
                else:
                    self._begin(self._serve, ours, self.cuts.pop(0) if self.cuts else None)

    def _serve(self, ours, cut):
        with ours, suppress(OSError), socket.create_connection(self.address) as theirs:
            back = self._begin(self._pass_on, theirs, ours, cut if cut is not None and cut >= 0 else None)
            self._pass_on(ours, theirs, -cut if cut is not None and cut < 0 else None)
            back.join()

    def _pass_on(self, source, target, most):
        with suppress(OSError):
            while content := source.recv(65536):
                if content.startswith(b"PUT ") and b"\r\n\r\n" not in content[:most]:
                    break
                target.sendall(content[:most])
                if most is not None and (most := most - len(content)) <= 0:
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)  # a close alone wakes no `accept`
        self.socket.close()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture(scope="session")
def bucket_server():
    """The address of an object store of S3's kind on this machine."""
    moto = pytest.importorskip("moto.server", reason="the extra `test` brings it")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(scope="module")
def leaving_nothing_open():
    """Connections that were cut are told, by the libraries whose they were, within the module that cut them."""
    yield
    gc.collect()


@pytest.fixture
def store(bucket_server, leaving_nothing_open, monkeypatch, tmp_path):
    """The proxy of the object store, in which there is a bucket called bucket, empty; this process finds it there."""
    from lilliput.system import files, mirror
    from lilliput.system.bucket import Bucket

    proxy = Proxy(bucket_server)
    settings = {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "ENDPOINT_URL": proxy.url, "CONFIG_FILE": str(tmp_path / "none")}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(files, "_watches", {})
    mirror._mirror.cache_clear()
    client = Bucket("s3://bucket/x")._client
    client.create_bucket(Bucket="bucket")
    yield proxy
    proxy.down, proxy.cuts = False, []
    for page in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=page["Key"])
    client.close()
    mirror._mirror.cache_clear()
    proxy.close()


def pytest_terminal_summary(terminalreporter):
    """How many inputs the fuzzing tried, by kind: workers' own words would be lost."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    counts = [value for report in reports for name, value in report.user_properties if name == "inputs"]
    if counts and terminalreporter.config.option.markexpr == "heavy":
        terminalreporter.section("inputs tried")
        for kind, tried, seconds, slowest, mib in counts:
            terminalreporter.line(f"{kind:10}{tried:7,} in {seconds:6.1f} s, slowest {slowest} s, {mib} MiB more")
        terminalreporter.line(f"{'all':10}{sum(tried for _, tried, *_ in counts):7,}")
