"""Weights for a library's own network, and the lines that load them, run as they stand."""

import json
import runpy
import shutil

import pytest
import torch

from lilliput import api
from lilliput.deploy import hub, library
from lilliput.deploy.network import Deployed
from lilliput.errors import BadSetting
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.encoders import load_encoder
from tests.conftest import SMALL, rng

IMAGES = torch.rand(4, 3, 32, 32, generator=rng())


@pytest.mark.parametrize("to", ["timm", "torchvision"])
def test_the_lines_load_a_librarys_own_network(whole_run, scenes, tmp_path, to):
    api.export(whole_run, to, scenes, tmp_path)
    run = runpy.run_path(str(tmp_path / "load.py"))
    assert type(run["network"]).__module__ == f"{to}.models.resnet"
    torch.testing.assert_close(run["run"](IMAGES), load_encoder(whole_run)(IMAGES), rtol=1e-4, atol=1e-5)


def test_they_classify_where_asked(whole_run, scenes, tmp_path):
    for to in ("timm", "torchvision"):
        api.export(whole_run, to, scenes, tmp_path / to, classifier=scenes)
    scores = [runpy.run_path(str(tmp_path / to / "load.py"))["run"](IMAGES) for to in ("timm", "torchvision")]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)
    assert scores[0].shape == (4, len(scenes.train.classes))


@pytest.mark.parametrize("classes", [None, 3])
def test_squeezenets_pooling_goes_with_its_last_part(classes):
    own = library._of_torchvision("squeezenet1_1", 512, classes)
    layers = "nn.AdaptiveAvgPool2d(1), nn.Flatten()" + (", nn.Linear(512, 3)" if classes else "")
    assert own["head"] == f"network.classifier = nn.Sequential({layers})\n"
    assert own["layer"] == ("classifier.2" if classes else "classifier.1")


def test_what_a_library_has_not_is_refused_with_the_way_out(finished_run, scenes, tmp_path):
    with pytest.raises(BadSetting, match=r"timm's resnet18 has no width 0.25: take --to onnx"):
        api.export(finished_run, "timm", scenes, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(BadSetting, match=r"timm has no network for squeezenet .it is torchvision's: --to torchvision"):
        library.network_in("timm", "squeezenet")
    with pytest.raises(BadSetting, match="no library has it, or --to onnx"):
        library.network_in("torchvision", "resnet18_plain")


def test_another_stem_gives_other_features_and_is_refused(whole_run, scenes, tmp_path):
    """All weights fit: only the comparison can tell."""
    run = shutil.copytree(whole_run, tmp_path / "run")
    weights, header = read_tensors(run / "encoder_001.safetensors")
    write_tensors(run / "encoder_001.safetensors", weights, {**header, "backbone_options": {"stem": "half"}})
    with pytest.raises(BadSetting, match="does not give what the network gives"):
        api.export(run, "torchvision", scenes, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_the_hubs_folder_is_loaded_by_timm_and_by_us(whole_run, scenes, tmp_path):
    import timm

    api.export(whole_run, "hub", scenes, tmp_path)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    encoder = load_encoder(whole_run)
    torch.testing.assert_close(model((IMAGES - mean) / std), encoder(IMAGES), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(load_encoder(tmp_path / "model.safetensors")(IMAGES), encoder(IMAGES))
    assert (
        (tmp_path / "README.md")
        .read_text()
        .startswith("---\nlibrary_name: timm\npipeline_tag: image-feature-extraction")
    )


def test_the_hubs_folder_names_the_classes(whole_run, scenes, tmp_path):
    api.export(whole_run, "hub", scenes, tmp_path, classifier=scenes)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == scenes.train.classes and config["num_classes"] == len(scenes.train.classes)
    assert "pipeline_tag: image-classification" in (tmp_path / "README.md").read_text()


def test_a_network_that_is_not_timms_keeps_our_own_form(narrow_again, scenes, tmp_path):
    api.export(narrow_again, "hub", scenes, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["library_name"] == "lilliput" and config["stock"] == "torchvision/shufflenet_v2_x0_5"
    torch.testing.assert_close(hub.opened(tmp_path)(IMAGES), load_encoder(narrow_again)(IMAGES))
    with pytest.raises(BadSetting, match="leave --classifier out"):
        api.export(narrow_again, "hub", scenes, tmp_path / "other", classifier=scenes)


@pytest.mark.parametrize("options", [{"stem": "half"}, {"width": 0.25}])
def test_another_network_than_timms_keeps_our_own_form(scenes, tmp_path, options):
    """All weights of another stem fit timm's network, which would give other features."""
    run = api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **{**SMALL, "epochs": 1}, **options)
    api.export(run, "hub", scenes, tmp_path / "hub")
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["library_name"] == "lilliput"
    with pytest.raises(BadSetting, match=rf"torchvision's resnet18 has no {next(iter(options))}"):
        api.export(run, "torchvision", scenes, tmp_path / "out")


def test_an_encoder_of_two_networks_is_no_librarys(tmp_path):
    from lilliput import catalog
    from lilliput.techniques.split_brain import SplitBrain

    halves = SplitBrain.build_encoder(catalog.backbone_builder("resnet18", width=0.25))
    with pytest.raises(BadSetting, match="split_brain's encoder is more than one resnet18"):
        library.write(
            Deployed(halves),
            tmp_path,
            library="torchvision",
            record={"technique": "split_brain", "backbone": "resnet18"},
            title="",
        )
