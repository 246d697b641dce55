"""Runs to export, and one export of all that can be asked of ONNX; times are made up where they do not matter."""

import pytest
import torch
from torch.torch_version import TorchVersion

from lilliput import api
from lilliput.deploy import clock, int8, onnx_file
from tests.conftest import NARROW, SMALL

TIMES = {"load_ms": 1.0, "first_ms": 2.0, "p50_ms": 3.0, "p95_ms": 4.0, "peak_mib": 5.0}


@pytest.fixture(autouse=True)
def made_up_times(monkeypatch, request):
    """A process that imports torch takes seconds."""
    if "real_times" not in request.fixturenames:
        monkeypatch.setattr(clock, "clocked", lambda *_, **__: dict(TIMES))


@pytest.fixture
def real_times():
    """To be asked for by tests of the clock itself."""


@pytest.fixture(scope="session")
def whole_run(scenes, tmp_path_factory):
    """RotNet on the whole ResNet-18, an epoch."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return api.pretrain("rotnet", "resnet18", scenes, out, **{**SMALL, "epochs": 1}, stem="stock")


@pytest.fixture(scope="session")
def torch_writes_onnx():
    """Skips where torch is too old for that."""
    if TorchVersion(torch.__version__) < TorchVersion(onnx_file.TORCH):
        pytest.skip(f"torch {torch.__version__} is older than {onnx_file.TORCH}")


@pytest.fixture(scope="session")
def written():
    """What torch's exporter, which is slow, has written for `exported`: of the encoder, and with its head."""
    return []


@pytest.fixture(scope="session")
def exported(finished_run, scenes, written, torch_writes_onnx, tmp_path_factory):
    """A narrow ResNet-18 with its classifier as ONNX, floats and eight bits; not to be changed."""
    usual = onnx_file.write

    def write(network, path, **named):
        usual(network, path, **named)
        written.append(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "clocked", lambda *_, **__: dict(TIMES))
        patch.setattr(onnx_file, "write", write)
        patch.setattr(int8, "POINT", 1.0)  # the first setting stands
        out = tmp_path_factory.mktemp("exported")
        return api.export(finished_run, "onnx", scenes, out, classifier=scenes, int8=True)


@pytest.fixture
def as_written(exported, written, monkeypatch):
    """ONNX files of the same encoder and classifier are taken from there."""
    monkeypatch.setattr(
        onnx_file, "write", lambda network, path, **_: path.write_bytes(written[network.head is not None])
    )


@pytest.fixture(scope="session")
def narrow_again(scenes, tmp_path_factory):
    """RotNet on a narrow ShuffleNet, an epoch: depthwise layers, and maps of one place."""
    out = tmp_path_factory.mktemp("narrow") / "run"
    return api.pretrain("rotnet", "shufflenet_v2", scenes, out, **{**NARROW, "epochs": 1, "width": 0.5})
