"""Starting from weights instead of random ones; and the baseline of the libraries' own."""

import shutil

import pytest
import torch
import torchvision

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.studies import results
from lilliput.system.records import read_json
from lilliput.training.cell import make_cell
from lilliput.training.encoders import init_of, load_encoder
from tests.conftest import SMALL

SHORT = {**SMALL, "epochs": 1}


@pytest.fixture
def weights(tmp_path):
    """A folder with a file of the name and form of a library's."""
    torch.manual_seed(9)
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), folder / "shufflenet_v2_x0_5.pth")
    return folder


@pytest.mark.parametrize("technique", ["rotnet", "simclr", "moco_v2", "byol"])
def test_encoders_and_their_slow_copies_start_from_the_weights(technique, weights):
    init = init_of("imagenet", "shufflenet_v2", weights)
    stock = torch.load(init.file, weights_only=True)
    model = make_cell(technique, "shufflenet_v2", init=init).build()
    copies = {"moco_v2": lambda: [model.key[0]], "byol": lambda: [model.target[0]]}.get(technique, list)()
    for encoder in (model.encoder, *copies):
        assert all(torch.equal(value, stock[name]) for name, value in encoder.net.state_dict().items())
    heads = [name for name in model.state_dict() if "net." not in name]
    plain = make_cell(technique, "shufflenet_v2").build().state_dict()
    assert heads and all(torch.equal(model.state_dict()[name], plain[name]) for name in heads)


def test_what_a_run_started_from_is_recorded_and_it_goes_on_with_nothing_else(weights, scenes, tmp_path):
    run = api.pretrain(
        "rotnet", "shufflenet_v2", scenes, tmp_path / "run", init="imagenet", imagenet_weights=weights, **SHORT
    )
    record = read_json(run / "run.json")
    assert record["init"] == "imagenet" and len(record["init_digest"]) == 64
    assert set(api.probe(run, scenes, probes=["knn"]).init) == {"imagenet"}
    with pytest.raises(BadSetting, match=r"init is .*imagenet.* there and None here"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, run, **SHORT)
    renamed = shutil.copy(weights / "shufflenet_v2_x0_5.pth", tmp_path / "other.pth")
    assert api.pretrain("rotnet", "shufflenet_v2", scenes, run, init=renamed, **SHORT) == run  # the same by content
    again = api.pretrain("simclr", "shufflenet_v2", scenes, tmp_path / "again", init=run, **SHORT)
    begun, ended = load_encoder(again / "encoder_000.safetensors"), load_encoder(run / "encoder_001.safetensors")
    assert all(torch.equal(value, ended.state_dict()[name]) for name, value in begun.state_dict().items())


def test_weights_of_a_network_with_skips_start_none_without(tmp_path):
    """They fit by their shapes, and what they were trained for is gone."""
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(BadSetting, match="trained with skips, and this is resnet18 without skips"):
        make_cell(
            "rotnet", "resnet18", options={"skips": False}, init=init_of("imagenet", "resnet18", tmp_path)
        ).build()


def test_what_is_nothing_to_start_from_is_refused_by_name(weights, scenes, tmp_path):
    for wrong, named in ((tmp_path / "nowhere", "neither a file nor a run's folder"), (weights, "no encoder_")):
        with pytest.raises(BadData, match=named):
            api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path / "run", init=wrong, **SHORT)
    with pytest.raises(BadData, match=r"has a 'conv1.0.weight' of .*shufflenet_v2 as it is here takes \[12, 1, 3, 3\]"):
        init = {"init": "imagenet", "imagenet_weights": weights}
        api.pretrain("split_brain", "shufflenet_v2", scenes, tmp_path / "run", **init, **SHORT)
    file = weights / "shufflenet_v2_x0_5.pth"
    init = init_of(file, "shufflenet_v2")
    file.write_bytes(file.read_bytes() + b"0")
    with pytest.raises(BadData, match="has changed since"):
        make_cell("rotnet", "shufflenet_v2", init=init).build()


def test_a_study_has_the_baselines_that_it_is_asked_for(weights, scenes, tmp_path, capsys):
    grid = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2", "squeezenet"], **SHORT}
    with pytest.raises(BadSetting, match="baseline 'pixel' is none of pixels"):
        api.study(scenes, tmp_path / "s", **grid, baselines=["pixel"])
    out, failed = api.study(scenes, tmp_path / "s", **grid, baselines=["imagenet"], imagenet_weights=weights)
    rows = results.read(out)
    assert not failed and set(rows.technique) == {"rotnet", "imagenet"}
    assert set(rows[rows.technique == "imagenet"].backbone) == {"shufflenet_v2"}
    assert "imagenet squeezenet is left out: the weights of ImageNet for squeezenet" in capsys.readouterr().err
    table = (out / "table.md").read_text()
    assert "| ImageNet's weights, supervised |" in table and "random init" not in table
    again = {"baselines": ["imagenet"], "imagenet_weights": weights, "seeds": [1]}
    api.study(scenes, out, **grid, **again)
    rows = results.read(out)
    assert set(rows[rows.technique == "imagenet"].seed) == {0}  # another seed has the same weights
    api.study(scenes, out, **grid, baselines=["pixels"])
    assert set(results.read(out).technique) == {"rotnet", "imagenet", "pixels"}
    assert read_json(out / "study.json")["baselines"] == ["imagenet", "pixels"]


def zero_norms(model):
    return [name for name, p in model.named_parameters() if p.ndim == 1 and name.endswith("weight") and not p.any()]


def test_residual_blocks_begin_at_zero_in_a_small_recipe_alone_and_in_the_slow_copy_too():
    model = make_cell("byol", "resnet18").build()
    found = zero_norms(model)
    assert len(found) == 2 * 5 and {name.partition(".")[0] for name in found} == {"encoder", "target"}
    assert zero_norms(make_cell("byol", "resnet18", options={"zero_residuals": False}).build()) == []
    assert zero_norms(make_cell("byol", "resnet18", recipe="paper").build()) == []


def test_but_for_those_blocks_the_start_is_the_same():
    zero = make_cell("simclr", "resnet18").build().state_dict()
    drawn = make_cell("simclr", "resnet18", options={"zero_residuals": False}).build().state_dict()
    differ = {name for name, values in zero.items() if not torch.equal(values, drawn[name])}
    assert len(differ) == 5 and all(name.endswith("bn2.weight") for name in differ)


def test_given_weights_stay_as_they_are(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    model = make_cell("simclr", "resnet18", init=init_of("imagenet", "resnet18", tmp_path)).build()
    assert zero_norms(model) == []


def test_the_untrained_network_of_a_cell_is_its_librarys():
    assert zero_norms(make_cell("simclr", "resnet18").build_backbone()) == []
