"""One thread (two test runs on one machine would fight over cores), a home of its own for every test, few scenes.

And what the tests of runs and studies share: small settings, finished and killed ones, and ways to harm them.
"""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from lilliput import api
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


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
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
    """SimCLR on a narrow ResNet-18, three epochs; not to be changed."""
    return api.pretrain("simclr", "resnet18", scenes, tmp_path_factory.mktemp("finished") / "run", **NARROW)


@pytest.fixture
def killed_run(scenes, tmp_path, monkeypatch):
    """A run of the same settings that was killed when the state of epoch 2 was about to be written."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, training_run, "save_state", 3)
        with pytest.raises(KeyboardInterrupt):
            api.pretrain("simclr", "resnet18", scenes, tmp_path / "killed", **NARROW)
    return tmp_path / "killed"


@pytest.fixture(scope="session")
def rotnet_study(scenes, tmp_path_factory):
    """RotNet on ShuffleNet, three epochs, all of them judged; not to be changed."""
    out = tmp_path_factory.mktemp("study") / "s"
    api.study(scenes, out, techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    return out


def pytest_terminal_summary(terminalreporter):
    """How many inputs the fuzzing tried, by kind: workers' own words would be lost."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    counts = [value for report in reports for name, value in report.user_properties if name == "inputs"]
    if counts and terminalreporter.config.option.markexpr == "heavy":
        terminalreporter.section("inputs tried")
        for kind, tried, seconds, slowest, mib in counts:
            terminalreporter.line(f"{kind:10}{tried:7,} in {seconds:6.1f} s, slowest {slowest} s, {mib} MiB more")
        terminalreporter.line(f"{'all':10}{sum(tried for _, tried, *_ in counts):7,}")
