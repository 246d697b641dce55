"""A run: the same bits however often it is interrupted, and weights that others can load."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

import lilliput
from lilliput import api
from lilliput.datasets import open_data
from lilliput.errors import BadData, BadSetting, LilliputError, UnknownName
from lilliput.system.tensors import read_tensors
from lilliput.training import run as runs
from lilliput.training.record import read_log
from lilliput.training.state import states

TECHNIQUES = ("rotnet", "moco_v2", "split_brain", "simclr", "byol")
PLAN = {"precision": "fp32", "channels_last": True}
SMALL = {"epochs": 3, "batch": 16, "device": "cpu", "plan": PLAN, "width": 0.25}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 64 images without labels."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def weights(folder):
    """Of every file, the bits of its tensors."""
    files = {path.name: read_tensors(path)[0] for path in folder.glob("*.safetensors")}
    return {name: {key: value.numpy().tobytes() for key, value in found.items()} for name, found in files.items()}


def measured(folder):
    """The log without what differs from run to run: time, energy, memory."""
    varying = ("seconds", "total_seconds", "images_per_s", "kwh", "grams_co2", "peak_memory_mib")
    return [{k: v for k, v in row.items() if k not in varying} for row in read_log(folder)]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(technique, scenes, tmp_path, monkeypatch):
    options = {**SMALL, "every": 1}
    whole = api.pretrain(technique, "resnet18", scenes, tmp_path / "whole", **options)

    # as if killed at the worst moments: after an encoder was written, before the state was; then before the log was
    for number, victim in enumerate(("save_state", "write_log")):
        real = getattr(runs, victim)
        calls = []

        def dies(*arguments, calls=calls, real=real, number=number, **named):
            calls.append(1)
            if len(calls) == 3 - number:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(runs, victim, dies)
            with pytest.raises(KeyboardInterrupt):
                api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **options)
    cut = api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **options)
    assert weights(cut) == weights(whole)
    assert measured(cut) == measured(whole)
    assert [row["epoch"] for row in read_log(cut)] == [1, 2, 3]


def test_a_run_killed_outright_goes_on_with_the_same_command(photos, tmp_path):
    """SIGKILL in the middle of training, by the command line, as a user's machine would."""
    numbers = {"epochs": 12, "batch": 16, "width": 0.25, "every": 4, "device": "cpu"}
    settings = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    settings += ["--plan", *(f"{name}={value}" for name, value in PLAN.items())]
    command = [sys.executable, "-m", "lilliput", "pretrain", "simclr", "resnet18", "--data", photos, *settings]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True, env=env, capture_output=True)
    killed = subprocess.Popen([*command, "--out", tmp_path / "cut"], env=env, stderr=subprocess.DEVNULL)
    for _ in range(3000):
        time.sleep(0.02)
        if len(read_log(tmp_path / "cut")) >= 3:
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 3 <= len(read_log(tmp_path / "cut")) < 12
    again = subprocess.run([*command, "--out", tmp_path / "cut"], check=True, env=env, capture_output=True, text=True)
    assert "goes on after epoch" in again.stderr
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_finished_run_is_not_run_again(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    api.pretrain("simclr", "resnet18", scenes, out, **SMALL)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")} == before


def test_a_folder_of_another_run_is_refused_with_the_setting_that_differs(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **SMALL)
    with pytest.raises(BadSetting, match=r"technique_options.*temperature"):
        api.pretrain("simclr", "resnet18", scenes, out, **SMALL, temperature=0.7)
    with pytest.raises(BadSetting, match="seed is 0 there and 1 here"):
        api.pretrain("simclr", "resnet18", scenes, out, **SMALL, seed=1)


def test_the_record_holds_every_effective_setting_and_the_log_what_was_measured(scenes, tmp_path):
    out = api.pretrain("byol", "resnet18", scenes, tmp_path / "run", **SMALL, lr=0.01)
    record = json.loads((out / "run.json").read_text())
    assert record["recipe_settings"]["lr"] == 0.01 and record["recipe_settings"]["batch"] == 16
    assert {"tau", "hidden", "output", "area"} <= set(record["technique_options"])
    assert record["backbone_options"] == {"width": 0.25}
    assert record["data_digest"] == scenes.pool.digest and record["image_size"] == 32
    threads = torch.get_num_threads()
    assert record["plan"] == {"device": "cpu", **PLAN, "threads": threads, "compile": False, "deterministic": False}
    assert {"versions", "machine", "commit", "parameters", "multiply_adds", "multiply_adds_224"} <= set(record)
    wanted = {"loss", "learning_rate", "seconds", "images_per_s", "gradient_norm", "effective_rank", "kwh", "grams_co2"}
    rows = read_log(out)
    assert all(wanted <= set(row) for row in rows)
    assert all(row["kwh"] >= 0 for row in rows) and rows[-1]["total_seconds"] > rows[0]["total_seconds"]
    assert sorted(path.name for path in out.glob("enc*")) == ["encoder_000.safetensors", "encoder_003.safetensors"]


def test_a_seed_repeats_a_run_and_another_does_not(scenes, tmp_path):
    options = {**SMALL, "epochs": 1}
    one, two = (api.pretrain("simclr", "resnet18", scenes, tmp_path / name, **options) for name in ("a", "b"))
    other = api.pretrain("simclr", "resnet18", scenes, tmp_path / "c", **options, seed=1)
    assert weights(one) == weights(two)
    assert weights(one)["encoder_000.safetensors"] != weights(other)["encoder_000.safetensors"]


STOCK = {
    "resnet18": (torchvision.models.resnet18, "fc"),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, "classifier"),
    "shufflenet_v2": (torchvision.models.shufflenet_v2_x0_5, "fc"),
    "squeezenet": (torchvision.models.squeezenet1_1, "classifier"),
    "efficientnet_lite0": (lambda: timm.create_model("efficientnet_lite0"), "classifier"),
}


@pytest.mark.parametrize("backbone", STOCK)
def test_saved_weights_load_into_the_librarys_own_model_by_name_with_equal_outputs(backbone, scenes, tmp_path):
    options = {**SMALL, "epochs": 1, "width": 1.0}
    out = api.pretrain("simclr", backbone, scenes, tmp_path / "run", **options)
    make, classifier = STOCK[backbone]
    stock = make()
    report = stock.load_state_dict(load_file(out / "encoder_001.safetensors"), strict=False)
    assert not report.unexpected_keys
    assert {key.split(".")[0] for key in report.missing_keys} <= {classifier}
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    seen = []
    if backbone == "squeezenet":  # its classifier is a convolution on the maps, so these are what it is given
        stock.classifier = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        with torch.no_grad():
            expected = stock.eval()((images - mean) / std)
    else:
        getattr(stock, classifier).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            stock.eval()((images - mean) / std)
        expected = seen[0]
    encoder = lilliput.load_encoder(out)
    with torch.no_grad():
        assert torch.allclose(encoder(images), expected, atol=1e-5)
    assert encoder.dim == expected.shape[1] and not encoder.training


def test_split_brains_halves_load_again_too(scenes, tmp_path):
    out = api.pretrain("split_brain", "resnet18", scenes, tmp_path / "run", **{**SMALL, "epochs": 1})
    encoder = lilliput.load_encoder(out / "encoder_001.safetensors")
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim)
    assert all(key.startswith(("lightness.", "colour.")) for key in load_file(out / "encoder_001.safetensors"))


def test_other_networks_of_timm_go_through_the_same_contract(scenes, tmp_path):
    options = {**SMALL, "epochs": 1}
    for technique in ("split_brain", "byol"):
        out = api.pretrain(technique, "timm/resnet10t", scenes, tmp_path / technique, **options)
        assert lilliput.load_encoder(out)(torch.rand(2, 3, 32, 32)).ndim == 2


def test_a_run_stops_once_its_score_has_not_improved_and_says_why(scenes, tmp_path, monkeypatch):
    scores = iter([0.2, 0.3, 0.25, 0.3, 0.9])
    monkeypatch.setattr(runs, "score_of", lambda *a: next(scores))
    options = {**SMALL, "epochs": 6, "every": 1, "until_converged": 2}
    out = api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **options)
    rows = read_log(out)
    assert len(rows) == 4 and "0.3 has not improved for 2 checkpoints" in rows[-1]["stopped"]
    api.pretrain("rotnet", "resnet18", scenes, out, **options)
    assert len(read_log(out)) == 4


@pytest.mark.parametrize("score", ["rank", "knn"])
def test_both_scores_can_be_computed(score, scenes, tmp_path):
    options = {**SMALL, "epochs": 2, "every": 1, "until_converged": 5, "score": score}
    out = api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **options)
    scores = [row["score"] for row in read_log(out)]
    assert len(scores) == 2 and all(0 <= value <= (1 if score == "knn" else 128) for value in scores)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(scenes, tmp_path):
    with pytest.raises(BadSetting, match="batch of 100 is larger than the 48 images"):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", batch=100)
    assert not (tmp_path / "run").exists()


def test_a_misspelt_name_says_what_was_meant(tmp_path):
    for wrong, meant in (
        (("simclt", "resnet18"), "simclr"),
        (("simclr", "resnet81"), "resnet18"),
    ):
        with pytest.raises(UnknownName, match=f"did you mean '{meant}'"):
            api.pretrain(*wrong, out=tmp_path / "run")
    with pytest.raises(UnknownName, match="did you mean 'temperature'"):
        api.pretrain("simclr", "resnet18", out=tmp_path / "run", temprature=0.1)
    with pytest.raises(UnknownName, match="did you mean 'stl10'"):
        open_data("stl")


def test_one_image_is_not_enough(scenes, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "only.png")
    with pytest.raises(BadData, match="1 image"):
        api.pretrain("simclr", "resnet18", tmp_path / "photos", tmp_path / "run")


def test_an_image_size_below_what_a_backbone_takes_is_refused(photos, tmp_path):
    with pytest.raises(BadSetting, match=r"squeezenet.*8"):
        api.pretrain("simclr", "squeezenet", photos, tmp_path / "run", image_size=8)


def test_a_device_that_is_not_there_is_named(scenes, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test needs absent")
    with pytest.raises(BadSetting, match="cuda"):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", device="cuda")


def test_an_unwritable_folder_is_named(scenes, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LilliputError, match="cannot write"):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "file" / "run", **SMALL)


def test_a_damaged_encoder_is_named(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **{**SMALL, "epochs": 1})
    path = out / "encoder_001.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadData, match="encoder_001"):
        lilliput.load_encoder(out)
    with pytest.raises(BadData, match="is it the folder of a run"):
        lilliput.load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temperature": "hot"}, "temperature 'hot' is not of type float"),
        ({"decoupled": 1}, "decoupled 1 is not of type bool"),
        ({"seed": -1}, "seed -1"),
        ({"country": "XYZ"}, "no energy figures for country 'XYZ'"),
        ({"beta2": 1.5}, "beta"),
    ],
)
def test_an_unusable_value_is_refused_before_anything_is_written(wrong, said, scenes, tmp_path):
    with pytest.raises(BadSetting, match=said):
        api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **{**SMALL, **wrong})
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(scenes, tmp_path):
    with pytest.raises(LilliputError, match="try a learning rate below"):
        api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **SMALL, lr=1e30, optimiser="sgd")


def test_mixed_precision_trains_on_a_cpu(scenes, tmp_path):
    for technique in TECHNIQUES:
        options = {**SMALL, "epochs": 1, "plan": {"precision": "bf16"}}
        out = api.pretrain(technique, "resnet18", scenes, tmp_path / technique, **options)
        assert torch.isfinite(torch.tensor(read_log(out)[-1]["loss"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_encoder_trained_on_cuda_loads_on_a_cpu(scenes, tmp_path):
    for technique in TECHNIQUES:
        out = api.pretrain(technique, "resnet18", scenes, tmp_path / technique, epochs=2, batch=16, width=0.25)
        assert lilliput.load_encoder(out)(torch.rand(2, 3, 32, 32)).isfinite().all()


def test_a_run_that_goes_on_keeps_its_plan_unless_told(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **SMALL)
    states(out)[-1].unlink()  # so that there is something to do again
    api.pretrain("simclr", "resnet18", scenes, out, **{**SMALL, "plan": None})
    assert json.loads((out / "run.json").read_text())["plan"]["precision"] == "fp32"
    states(out)[-1].unlink()
    api.pretrain("simclr", "resnet18", scenes, out, **{**SMALL, "plan": {"precision": "bf16"}})
    assert json.loads((out / "run.json").read_text())["plan"]["precision"] == "bf16"
