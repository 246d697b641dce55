"""run.json and log.jsonl: every effective setting, what was measured, and whose folder it is."""

import json

import pytest
import torch

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.system import records
from lilliput.training.record import FORMAT, read_log
from tests.conftest import NARROW, PLAN

NO_MORE = {"processes": 1, "compile": False, "deterministic": False, "accumulate": 1}  # of a plan


def test_a_run_of_a_newer_lilliput_is_refused(killed_run, scenes):
    record = records.read_json(killed_run / "run.json")
    records.write_json(killed_run / "run.json", {**record, "format": FORMAT + 1})
    with pytest.raises(BadData, match="install a newer one"):
        api.pretrain("simclr", "resnet18", scenes, killed_run, **NARROW)


def test_a_folder_of_another_run_is_refused_with_the_setting_that_differs(scenes, tmp_path):
    out = api.pretrain("simclr", "resnet18", scenes, tmp_path / "run", **NARROW)
    with pytest.raises(BadSetting, match=r"another run: temperature is 0\.2 there and 0\.7 here; choose"):
        api.pretrain("simclr", "resnet18", scenes, out, **NARROW, temperature=0.7)
    with pytest.raises(BadSetting, match="seed is 0 there and 1 here"):
        api.pretrain("simclr", "resnet18", scenes, out, **NARROW, seed=1)


def test_the_record_holds_every_effective_setting_and_the_log_what_was_measured(scenes, tmp_path):
    out = api.pretrain("byol", "resnet18", scenes, tmp_path / "run", **{**NARROW, "every": 5}, lr=0.01)
    record = json.loads((out / "run.json").read_text())
    assert record["recipe_settings"]["lr"] == 0.01 and record["recipe_settings"]["batch"] == 16
    assert {"tau", "hidden", "output", "area"} <= set(record["technique_options"])
    assert record["backbone_options"] == {"width": 0.25}
    assert record["data_digest"] == scenes.pool.digest and record["image_size"] == 32
    threads = torch.get_num_threads()
    assert record["plan"] == {"device": "cpu", **PLAN, "threads": threads, **NO_MORE}
    assert {"versions", "machine", "commit", "parameters", "multiply_adds", "multiply_adds_224"} <= set(record)
    wanted = {"loss", "learning_rate", "seconds", "images_per_s", "gradient_norm", "effective_rank", "kwh", "grams_co2"}
    rows = read_log(out)
    assert all(wanted <= set(row) for row in rows)
    assert all(row["kwh"] >= 0 for row in rows) and rows[-1]["total_seconds"] > rows[0]["total_seconds"]
    assert sorted(path.name for path in out.glob("enc*")) == ["encoder_000.safetensors", "encoder_003.safetensors"]
