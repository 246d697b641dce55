"""ONNX files: plain operations, the same features, images of any number, classes inside."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import lilliput
from lilliput import api
from lilliput.deploy import export as exporting
from lilliput.deploy import onnx_file
from lilliput.deploy.network import Deployed
from lilliput.errors import BadSetting
from lilliput.training.encoders import load_encoder

onnx = pytest.importorskip("onnx")


def test_a_classifier_is_one_file_of_plain_operations_with_its_classes(exported, finished_run, scenes):
    model = onnx.load(exported / "simclr-resnet18.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    kinds = {node.op_type for node in model.graph.node}
    assert {"Conv", "Gemm"} <= kinds <= {"Sub", "Div", "Conv", "Relu", "MaxPool", "Add", "ReduceMean", "Gemm"}
    assert str(Path(lilliput.__file__).parent).encode() not in model.SerializeToString()  # nobody's folders
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["classes"] == scenes.train.classes and told["lilliput"]["backbone_options"] == {"width": 0.25}


def test_it_has_the_probes_accuracy_and_torchs_classes(exported, finished_run, scenes, tmp_path):
    record = json.loads((exported / "export.json").read_text())
    torchs, floats, bits = record["rows"]
    assert torchs["accuracy"] == floats["accuracy"] > 0 and floats["agreement"] == 1.0
    assert record["parity"]["largest_difference"] < 1e-4 * record["parity"]["largest_value"]
    rows = api.probe(shutil.copytree(finished_run, tmp_path / "run"), scenes, probes=["linear"], at=[3])
    judged = rows[(rows.metric == "accuracy") & (rows.epoch == 3)].value.iloc[-1]
    assert torchs["accuracy"] == pytest.approx(judged, abs=0.02)  # the last bits of features may tip an image or two
    assert bits["mib"] < 0.5 * floats["mib"]
    run = onnx_file.opened(exported / "simclr-resnet18.onnx")
    for count in (1, 5):
        assert run(torch.zeros(count, 3, 32, 32)).shape == (count, len(scenes.train.classes))


def test_a_file_for_any_size_takes_bytes_too(torch_writes_onnx, tmp_path):
    layers = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = Deployed(nn.Sequential(*layers), uint8=True)
    onnx_file.write(network, tmp_path / "a.onnx", size=32, dynamic=True, metadata={})
    run = onnx_file.opened(tmp_path / "a.onnx")
    for count, height, width in ((1, 32, 32), (3, 63, 96)):
        pixels = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
        torch.testing.assert_close(run(pixels), network(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
def test_an_encoder_for_any_size_takes_bytes_too(torch_writes_onnx, narrow_again, scenes, tmp_path):
    out = api.export(narrow_again, "onnx", scenes, tmp_path, dynamic=True, uint8=True)
    run, encoder = onnx_file.opened(out / "rotnet-shufflenet_v2.onnx"), load_encoder(narrow_again)
    for height, width in ((32, 32), (64, 96)):
        pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        torch.testing.assert_close(run(pixels), encoder(pixels.float() / 255), rtol=1e-3, atol=1e-4)


def test_too_old_a_torch_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.8.1+cpu")
    with pytest.raises(BadSetting, match=r"--to onnx needs torch 2.9 or newer, and this is 2.8.1\+cpu"):
        onnx_file.write(Deployed(nn.Flatten()), tmp_path / "a.onnx", size=32, dynamic=False, metadata={})


def test_a_file_that_differs_is_refused_and_removed(finished_run, scenes, tmp_path, monkeypatch):
    def forgetful(network, path, **_):
        path.write_bytes(b"")

    monkeypatch.setattr(onnx_file, "write", forgetful)
    monkeypatch.setattr(onnx_file, "opened", lambda path, **_: lambda images: torch.zeros(len(images), 128))
    with pytest.raises(BadSetting, match="does not give what the network gives"):
        exporting.Export(finished_run, exporting_record(finished_run), exporting.Asked("onnx"), tmp_path / "out").run(
            scenes.pool, "scenes", None
        )
    assert list((tmp_path / "out").iterdir()) == []


def exporting_record(run):
    return json.loads((run / "run.json").read_text())
