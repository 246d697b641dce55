"""Saved encoders: weights that others can load, and no damage that goes unseen."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file

import lilliput
from lilliput import api, zoo
from lilliput.errors import BadData, LilliputError
from lilliput.system.tensors import write_tensors
from lilliput.training.encoders import encoder_at, load_encoder
from lilliput.training.record import FORMAT, read_run
from tests.conftest import NARROW, TECHNIQUES, flip_bit, rng

ZOO = {"zoo/shufflenet_v2": 42.279, "zoo/squeezenet": 6475.03}  # the norm of its features of two images of noise


def test_no_flipped_bit_of_an_encoder_goes_unseen(finished_run, tmp_path):
    content = (finished_run / "encoder_001.safetensors").read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 100).tolist()
    for place in [*range(64), *places]:
        path = tmp_path / "encoder.safetensors"
        path.write_bytes(content)
        flip_bit(path, place)
        try:  # spaces between the header's words are the only bytes that mean nothing
            load_encoder(path)
            assert content[place : place + 1] == b" "
        except BadData as error:
            assert "encoder.safetensors" in str(error)


def test_a_cut_encoder_is_named(finished_run, tmp_path):
    content = (finished_run / "encoder_001.safetensors").read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "e.safetensors").write_bytes(content[:length])
        with pytest.raises(BadData, match=r"e\.safetensors"):
            load_encoder(tmp_path / "e.safetensors")


def test_a_pickle_is_refused_with_its_danger_and_the_way_out(tmp_path):
    for number, legacy in enumerate((True, False)):
        path = tmp_path / f"{number}.pt"
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(BadData, match=r"pickle.*any code.*save_file"):
            load_encoder(path)


STOCK = {
    "resnet18": (torchvision.models.resnet18, "fc"),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, "classifier"),
    "shufflenet_v2": (torchvision.models.shufflenet_v2_x0_5, "fc"),
    "squeezenet": (torchvision.models.squeezenet1_1, "classifier"),
    "efficientnet_lite0": (lambda: timm.create_model("efficientnet_lite0"), "classifier"),
}


@pytest.mark.parametrize("backbone", STOCK)
def test_saved_weights_load_into_the_librarys_own_model_by_name_with_equal_outputs(backbone, scenes, tmp_path):
    options = {**NARROW, "epochs": 1, "width": 1.0}
    out = api.pretrain("simclr", backbone, scenes, tmp_path / "run", **options)
    make, classifier = STOCK[backbone]
    stock = make()
    report = stock.load_state_dict(load_file(out / "encoder_001.safetensors"), strict=False)
    assert not report.unexpected_keys
    assert {key.split(".")[0] for key in report.missing_keys} <= {classifier}
    images = torch.rand(3, 3, 64, 64, generator=rng(0))
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
    out = api.pretrain("split_brain", "resnet18", scenes, tmp_path / "run", **{**NARROW, "epochs": 1})
    encoder = lilliput.load_encoder(out / "encoder_001.safetensors")
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim)
    assert all(key.startswith(("lightness.", "colour.")) for key in load_file(out / "encoder_001.safetensors"))


def test_other_networks_of_timm_go_through_the_same_contract(scenes, tmp_path):
    options = {**NARROW, "epochs": 1}
    for technique in ("split_brain", "byol"):
        out = api.pretrain(technique, "timm/resnet10t", scenes, tmp_path / technique, **options)
        assert lilliput.load_encoder(out)(torch.rand(2, 3, 32, 32)).ndim == 2


def test_a_damaged_encoder_is_named(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **{**NARROW, "epochs": 1})
    path = out / "encoder_001.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadData, match="encoder_001"):
        lilliput.load_encoder(out)
    with pytest.raises(BadData, match="is not the folder of a run"):
        lilliput.load_encoder(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_encoder_trained_on_cuda_loads_on_a_cpu(scenes, tmp_path):
    for technique in TECHNIQUES:
        out = api.pretrain(technique, "resnet18", scenes, tmp_path / technique, epochs=2, batch=16, width=0.25)
        assert lilliput.load_encoder(out)(torch.rand(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"stem": "eighth"}, "stem 'eighth'"),
        ({"width": float("nan")}, "--width nan"),
        ({"depth": 1}, "takes no option 'depth'"),
    ],
)
def test_a_header_of_unusable_values_is_named_with_its_file(odd, said, tmp_path):
    path = tmp_path / "encoder_001.safetensors"
    header = {"technique": "simclr", "backbone": "resnet18", "backbone_options": odd, "format": FORMAT}
    write_tensors(path, {"weight": torch.zeros(1)}, header)
    with pytest.raises(LilliputError, match=f"{path}: .*{said}"):
        lilliput.load_encoder(path)


def test_an_encoder_of_the_zoo_is_known_by_its_name(finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    shutil.copytree(finished_run, tmp_path / "there/small")
    monkeypatch.setattr(zoo, "HOME", tmp_path / "there")
    images = torch.rand(2, 3, 32, 32, generator=rng())
    assert torch.equal(lilliput.load_encoder("zoo/small")(images), load_encoder(finished_run)(images))
    assert encoder_at("zoo/small").parent == tmp_path / "there/small"
    for wrong in ("zoo/large", "zoo/../small", "zoo"):
        with pytest.raises(BadData, match=f"there is no {wrong}; in the zoo are zoo/small"):
            lilliput.load_encoder(wrong)
    shutil.copytree(finished_run, tmp_path / "zoo/large")  # a folder of one's own by that name comes first
    assert encoder_at("zoo/large").parent == Path("zoo/large")


@pytest.mark.parametrize(("name", "norm"), ZOO.items())
def test_an_encoder_of_the_zoo_gives_the_features_that_it_was_judged_by(name, norm):
    encoder, record = lilliput.load_encoder(name), read_run(zoo.folder(name))
    images = torch.rand(2, 3, record["image_size"], record["image_size"], generator=rng())
    assert encoder(images).norm().item() == pytest.approx(norm, rel=1e-3)
    assert encoder.name == record["backbone"] and record["exported"]
    assert (encoder_at(name).parent / "README.md").exists() and encoder_at(name).stat().st_size < 10 * 2**20


def test_no_encoder_of_the_zoo_is_untested():
    assert zoo.names() == sorted(ZOO)
