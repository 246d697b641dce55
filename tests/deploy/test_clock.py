"""Times of a file in a process of its own."""

import subprocess
import sys
import time

import numpy as np
import pytest

from lilliput.deploy import clock
from lilliput.errors import BadSetting


def test_what_is_measured_is_what_passes():
    def load():
        time.sleep(0.02)
        calls = iter(range(10**6))
        return lambda image: time.sleep(0.01 if next(calls) == 0 else 0.001)

    times = clock.measured(load, np.zeros(1))
    assert 20 <= times["load_ms"] < 60 and 10 <= times["first_ms"] < 50
    assert 1 <= times["p50_ms"] <= times["p95_ms"] < 10 and times["peak_mib"] > 1


def test_a_file_is_timed_by_onnx_runtime_alone(exported, real_times):
    pytest.importorskip("onnxruntime")
    path = exported / "simclr-resnet18.onnx"
    found = clock.clocked("onnx", path, size=32, threads=1, uint8=False, classes=None, use=[])
    assert 0 < found["p50_ms"] <= found["p95_ms"] and found["peak_mib"] > 10
    code = "import sys, lilliput.deploy.clock; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_encoder_is_timed_as_it_is(finished_run, real_times):
    file = finished_run / "encoder_003.safetensors"
    found = clock.clocked("torch", file, size=32, threads=1, uint8=True, classes=3, use=[])
    assert 0 < found["p50_ms"] <= found["p95_ms"] and found["peak_mib"] > 100


def test_what_cannot_be_loaded_is_told(tmp_path, real_times):
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(BadSetting, match=r"a.onnx cannot be timed: .*"):
        clock.clocked("onnx", tmp_path / "a.onnx", size=32, threads=1, uint8=False, classes=None, use=[])
