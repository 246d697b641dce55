"""A run made thinner is a run like any other: saved, loaded, judged, gone on with."""

import shutil

import pytest
import torch

import lilliput
from lilliput import api, cli
from lilliput.backbones import links
from lilliput.errors import BadSetting, LilliputError
from lilliput.reports.thinned import thinned
from lilliput.studies import results
from lilliput.system.records import read_json
from lilliput.system.tensors import read_tensors
from lilliput.training.encoders import load_encoder
from lilliput.training.record import read_run
from tests.conftest import NARROW, PLAN, interrupt_at, labelled_folder, saved_bits, training_run

PRUNING = {"keep": 0.5, "epochs": 2, "images": 48, "probes": ["knn"], "device": "cpu", "plan": PLAN}


@pytest.fixture(scope="module")
def pruned(finished_run, scenes, tmp_path_factory):
    """Of a copy, for the run before is judged too; not to be changed."""
    folder = tmp_path_factory.mktemp("pruned")
    shutil.copytree(finished_run, folder / "run")
    return folder / "run", api.prune(folder / "run", scenes, folder / "thin", **PRUNING)


def test_half_of_the_channels_are_gone_and_the_files_say_which_network_that_is(pruned):
    before, after = (load_encoder(folder) for folder in pruned)
    for whole, thin in zip(links(before), links(after), strict=True):
        assert thin.channels == whole.channels // 2
    kept = {link.name: link.channels for link in links(after)}
    header = read_tensors(pruned[1] / "encoder_002.safetensors")[1]
    assert header["backbone_options"] == {"width": 0.25, "channels_kept": kept}
    images = torch.rand(2, 3, 32, 32)
    assert after(images).shape == before(images).shape and not torch.equal(after(images), before(images))


def test_encoder_0_is_the_pruned_one_and_the_last_has_learned_from_there(pruned):
    start, begun, ended = (
        lilliput.load_encoder(pruned[1] / name).state_dict()
        for name in ("pruned.safetensors", "encoder_000.safetensors", "encoder_002.safetensors")
    )
    assert all(torch.equal(value, begun[name]) for name, value in start.items())
    assert not all(torch.equal(value, ended[name]) for name, value in start.items())


def test_batch_norm_of_the_pruned_encoder_fits_what_is_left(pruned, scenes):
    """With the statistics of the whole network its features were half as far again from what they had been."""
    encoder, seen = load_encoder(pruned[1] / "pruned.safetensors"), []
    norm = encoder.net.layer1[0].bn2
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoder.train()(scenes.pool.load(slice(None), "cpu"))
    means = load_encoder(pruned[1] / "pruned.safetensors").net.layer1[0].bn2.running_mean
    torch.testing.assert_close(means, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_recovery_is_by_the_runs_own_settings_at_a_tenth_of_its_rate(pruned):
    before, after = map(read_run, pruned)
    assert after["recipe_settings"]["lr"] == pytest.approx(0.1 * before["recipe_settings"]["lr"])
    for name in ("technique", "backbone", "recipe", "technique_options", "image_size"):
        assert after[name] == before[name]
    told = {"lr", "epochs", "warmup"}
    differ = {name for name, value in before["recipe_settings"].items() if after["recipe_settings"][name] != value}
    assert differ <= told and after["recipe_settings"]["epochs"] == 2
    assert after["init"] == "pruned.safetensors"


def test_sizes_and_accuracies_before_and_after_are_told_in_one_table(pruned):
    before, after = map(read_run, pruned)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in thinned(*pruned).splitlines()]
    assert lines[0] == [
        "encoder",
        "epoch",
        "parameters",
        "multiply-adds, 32 px",
        "224 px",
        "knn euclidean",
        "knn cosine",
    ]
    assert [line[:2] for line in lines[2:]] == [["before", "3"], ["pruned", "0"], ["recovered", "2"]]
    encoder = load_encoder(pruned[1])
    assert after["parameters"] == sum(p.numel() for p in encoder.parameters()) < 0.55 * before["parameters"]
    assert after["multiply_adds"] < 0.65 * before["multiply_adds"]
    rows = results.read(pruned[1])
    due = rows[(rows.metric == "accuracy_cosine") & (rows.epoch == 0)].value.item()
    assert lines[3][-1] == f"{due:.3f}".removeprefix("0")


def test_a_pruning_that_was_broken_off_goes_on_and_ends_with_the_same_bits(pruned, scenes, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, training_run, "save_state", 2)
        with pytest.raises(KeyboardInterrupt):
            api.prune(pruned[0], scenes, tmp_path / "thin", **PRUNING)
    assert not (tmp_path / "thin" / "encoder_002.safetensors").exists()
    again = api.prune(pruned[0], scenes, tmp_path / "thin", **PRUNING)
    due = saved_bits(pruned[1])
    assert {name: bits for name, bits in saved_bits(again).items() if name.startswith("encoder")} == {
        name: bits for name, bits in due.items() if name.startswith("encoder")
    }


def test_another_pruning_or_another_run_in_the_same_folder_is_refused(pruned, scenes):
    with pytest.raises(BadSetting, match=r"pruned.safetensors was pruned otherwise: choose another --out"):
        api.prune(pruned[0], scenes, pruned[1], **{**PRUNING, "keep": 0.25})
    with pytest.raises(BadSetting, match="holds another run: choose another --out"):
        api.prune(pruned[0], scenes, pruned[0], **PRUNING)


def test_a_pruned_run_can_be_pruned_again(pruned, scenes, tmp_path):
    """Only of what has more than one channel left: the first has 4 of 16 then."""
    again = api.prune(pruned[1], scenes, tmp_path / "thinner", **{**PRUNING, "epochs": 1})
    assert read_json(again / "run.json")["backbone_options"]["channels_kept"]["layer1.0.conv1"] == 4
    assert load_encoder(again)(torch.rand(1, 3, 32, 32)).shape == (1, 128)


def test_images_without_labels_are_enough(finished_run, scenes, tmp_path):
    unlabelled = scenes._replace(train=None, test=None)
    out = api.prune(finished_run, unlabelled, tmp_path / "thin", **{**PRUNING, "epochs": 1})
    assert not (out / "results.csv").exists()
    assert thinned(finished_run, out).splitlines()[0].endswith("| 224 px |")


def test_what_cannot_be_pruned_is_refused_with_its_reason(scenes, tmp_path):
    one = {**NARROW, "epochs": 1}
    unlabelled = scenes._replace(train=None, test=None)
    halves = api.pretrain("split_brain", "resnet18", scenes, tmp_path / "halves", **one)
    with pytest.raises(BadSetting, match=r"the encoder of split_brain is of several networks"):
        api.prune(halves, unlabelled, tmp_path / "a", **PRUNING)
    with pytest.raises(BadSetting, match=r"keep 1.5 must be a share"):
        api.prune(halves, scenes, tmp_path / "b", **{**PRUNING, "keep": 1.5})
    with pytest.raises(LilliputError, match=r"nowhere"):
        api.prune(tmp_path / "nowhere", scenes, tmp_path / "c", **PRUNING)
    assert not any((tmp_path / name).exists() for name in "abc")


def test_the_command_prunes_judges_and_prints_the_table(tmp_path, capsys):
    data = ["--data", str(labelled_folder(tmp_path))]
    words = "pretrain simclr mobilenet_v2 --width 0.25 --image-size 32 --batch 16 --epochs 1 --device cpu --plan"
    plan = ["precision=fp32", "channels_last=true", "threads=1"]
    assert cli.main([*words.split(), *plan, *data, "--out", str(tmp_path / "run")]) == 0
    assert cli.main(["prune", str(tmp_path / "run"), *data, "--probes", "knn"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 5 and table[-1].startswith("| recovered | 1 |")
    assert (tmp_path / "run-thin" / "encoder_001.safetensors").exists()
