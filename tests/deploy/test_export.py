"""The whole way, by the command and from Python; what stands beside every file."""

import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lilliput
from lilliput import api, cli
from lilliput.deploy import hub, torchscript
from lilliput.deploy.table import picture
from lilliput.errors import BadData, BadSetting, UnknownName
from lilliput.reports.words import short
from lilliput.system.records import read_json
from lilliput.training.encoders import load_encoder
from lilliput.training.record import read_log
from tests.conftest import labelled_folder, rng

IMAGES = torch.rand(4, 3, 32, 32, generator=rng())


def test_torchscript_is_loaded_without_us_and_gives_the_same(finished_run, scenes, tmp_path):
    api.export(finished_run, "torchscript", scenes, tmp_path)
    path = tmp_path / "simclr-resnet18.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.jit.load(str(path))
    torch.testing.assert_close(network(IMAGES), load_encoder(finished_run)(IMAGES), rtol=1e-4, atol=1e-5)
    assert str(Path(lilliput.__file__).parent).encode() not in path.read_bytes()  # nobody's folders


def test_the_command_prints_the_table_and_the_files(finished_run, tmp_path, capsys):
    words = ["--to", "torchscript", "--classifier", str(labelled_folder(tmp_path)), "--out", str(tmp_path / "o")]
    assert cli.main(["export", str(finished_run), *words]) == 0
    printed = capsys.readouterr().out
    (accuracy,) = re.findall(r"\| torchscript \| simclr-resnet18.pt \| (\S+) \| 1.000 \|", printed)
    assert float(accuracy) > 0.9  # dark and light are easily told
    assert "README.md, export.json, figure.png, simclr-resnet18.pt, table.md" in printed


def test_a_card_tells_data_protocol_cost_figures_and_limits(exported, finished_run):
    text, record = (exported / "README.md").read_text(), json.loads((exported / "export.json").read_text())
    assert text.startswith("---\nlibrary_name: onnx\npipeline_tag: image-classification\ntags:\n- lilliput\n")
    for chapter in ("How to use it", "Data and protocol", "What it cost", "Figures", "Limits"):
        assert f"\n## {chapter}\n" in text
    run = json.loads((finished_run / "run.json").read_text())
    assert f"{run['pool_images']} images of scenes at 32 px" in text and run["data_digest"][:12] in text
    assert "to epoch 3 of 3" in text and f"{record['rows'][1]['accuracy']:.3f}" in text
    assert f"{short(read_log(finished_run)[-1]['kwh'])} kWh" in text and (exported / "table.md").read_text() in text
    with Image.open(exported / "figure.png") as drawn:
        assert drawn.size[0] > 1000


def test_the_lines_of_a_card_run(exported, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(exported)
    exec(code, {})
    assert capsys.readouterr().out.startswith("(1, ")


def test_what_cannot_be_is_refused_before_any_work(finished_run, scenes, tmp_path):
    refused = [
        (("onxx", scenes), {}, UnknownName, "no format 'onxx'; there are onnx, executorch"),
        (("torchscript", scenes), {"int8": True}, BadSetting, "--int8 goes with --to onnx"),
        (("onnx",), {"int8": True}, BadSetting, "give --data DIR"),
        (("timm", scenes), {"dynamic": True}, BadSetting, "--dynamic goes with a file that is run"),
        (("onnx", scenes), {"push": "me/it"}, BadSetting, "--push me/it goes with --to hub"),
        (("onnx", scenes), {"threads": 0}, BadSetting, "threads 0 is not a whole number"),
    ]
    for words, named, kind, said in refused:
        with pytest.raises(kind, match=said):
            api.export(finished_run, *words, out=tmp_path / "out", **named)
    with pytest.raises(BadSetting, match="has no encoder of epoch 99; it has those of 0, "):
        api.export(finished_run, "onnx", scenes, tmp_path / "out", epoch=99)
    with pytest.raises(BadData, match="not the folder of a run"):
        api.export(tmp_path, "onnx", scenes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "library", "extra"), [("onnx", "onnx", "export"), ("executorch", "executorch", "executorch")]
)
def test_without_the_extra_the_error_says_how_to_have_it(
    finished_run, scenes, tmp_path, monkeypatch, to, library, extra
):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(BadSetting, match=rf'needs {library}, .*pip install "lilliput\[{extra}\]"'):
        api.export(finished_run, to, scenes, tmp_path)


def test_the_encoder_of_an_epoch_is_exported_where_asked(finished_run, scenes, tmp_path):
    out = api.export(finished_run, "torchscript", scenes, tmp_path / "out", epoch=0)
    assert read_json(out / "export.json")["epoch"] == 0
    (file,) = out.glob("*.pt")
    untrained = load_encoder(finished_run / "encoder_000.safetensors")
    torch.testing.assert_close(torchscript.opened(file)(IMAGES), untrained(IMAGES), rtol=1e-4, atol=1e-5)


def test_what_an_exporter_cannot_hold_is_one_line_with_the_way_out(finished_run, scenes, tmp_path, monkeypatch):
    def write(*_, **__):
        raise RuntimeError("Constraints violated\n(images.size()[2])")

    monkeypatch.setattr("lilliput.deploy.torchscript.write", write)
    said = r"torchscript cannot hold resnet18: leave --dynamic out, or take another --to \(Constraints violated \(im"
    with pytest.raises(BadSetting, match=said):
        api.export(finished_run, "torchscript", scenes, tmp_path / "out", dynamic=True)


def test_a_table_of_labels_makes_the_compared_images_judge(finished_run, tmp_path):
    """It was left out of account without --classifier, and the images were said to have no labels."""
    pictures, table = tmp_path / "pictures", tmp_path / "labels.csv"
    pictures.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for number, picture_of in enumerate(pixels):
        Image.fromarray(picture_of).save(pictures / f"{number}.png")
    table.write_text("file,label\n" + "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(40)))
    out = api.export(finished_run, "torchscript", pictures, tmp_path / "out", labels=table)
    assert read_json(out / "export.json")["judge"] is not None


def test_a_folder_is_pushed_to_the_hub_where_asked(tmp_path, monkeypatch):
    """A stand-in for the hub's library: its calls are what it documents, its wire is not tried here."""
    import huggingface_hub

    calls = []

    class Api:
        def create_repo(self, name, *, exist_ok):
            calls.append(("create", name, exist_ok))
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
            calls.append(("upload", repo_id, folder_path, tuple(allow_patterns)))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert hub.push(tmp_path, "me/it") == "https://hub/me/it"
    sent = ("config.json", "model.safetensors", "README.md", "figure.png")
    assert calls == [("create", "me/it", True), ("upload", "me/it", str(tmp_path), sent)]
    monkeypatch.setattr(Api, "create_repo", lambda *_, **__: 1 / 0)
    with pytest.raises(BadSetting, match=r"me/it was not pushed .division by zero.*log in"):
        hub.push(tmp_path, "me/it")


def test_a_picture_shows_what_is_known():
    rows = [{"what": "torch", "p50_ms": 3.0, "p95_ms": 4.0, "mib": 2.0, "accuracy": None}, {"what": "onnx", "mib": 1.0}]
    assert picture(rows, "$a title$").startswith(b"\x89PNG")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_an_executorch_program_gives_the_same(finished_run, scenes, tmp_path):
    pytest.importorskip("executorch")
    api.export(finished_run, "executorch", scenes, tmp_path)
    record = json.loads((tmp_path / "export.json").read_text())
    assert record["parity"]["agreement"] == 1.0 and (tmp_path / "simclr-resnet18.pte").stat().st_size > 10**5
    with pytest.raises(BadSetting, match="leave --dynamic out"):
        api.export(finished_run, "executorch", scenes, tmp_path / "other", dynamic=True)
