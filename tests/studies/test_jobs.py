"""Jobs: baselines and cells, of which only what is missing is done."""

import pandas as pd
import pytest

from lilliput import api
from lilliput.errors import BadSetting
from lilliput.studies import jobs, results
from lilliput.training import run as training_run
from tests.studies.conftest import SHORT


def test_the_random_baseline_is_the_first_checkpoint_of_every_technique_that_keeps_the_network_whole(small_study):
    rows = results.read(small_study[0])
    rows = rows[(rows["probe"] == "linear") & (rows["metric"] == "accuracy") & (rows["epoch"] == 0)]
    value = rows.set_index("technique")["value"]
    assert value["simclr"] == value["random_init"]


def test_a_study_run_again_does_only_what_is_missing(small_study, scenes, monkeypatch):
    out, _ = small_study
    before, old = (out / "results.csv").read_text(), results.read(out)
    monkeypatch.setattr(jobs, "pretrain", lambda *a, **k: pytest.fail("nothing was missing"))
    api.study(scenes, out, techniques=["simclr", "split_brain"], backbones=["shufflenet_v2"], **SHORT)
    assert (out / "results.csv").read_text() == before
    monkeypatch.undo()
    done = []
    real = jobs.pretrain
    monkeypatch.setattr(jobs, "pretrain", lambda cell, *a, **k: (done.append(cell.name), real(cell, *a, **k)))
    kept = pd.read_csv(out / "results.csv", dtype=str)  # pandas 2 reads numbers not to their last bit
    kept[~((kept["technique"] == "simclr") & (kept["epoch"] == "1"))].to_csv(out / "results.csv", index=False)
    api.study(scenes, out, techniques=["simclr", "split_brain"], backbones=["shufflenet_v2"], **SHORT)
    assert done == ["simclr-shufflenet_v2-0"]
    columns = ["technique", "backbone", "epoch", "probe", "metric", "value"]
    old, new = (rows[columns].sort_values(columns).reset_index(drop=True) for rows in (old, results.read(out)))
    assert new.equals(old)


def test_a_study_until_converged_counts_its_cells_as_whole(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "score_of", lambda *_: 0.3)  # never improves: over at the third checkpoint
    options = {**SHORT, "epochs": 6, "until_converged": 2, "probes": ["linear"]}
    few = {"techniques": ["rotnet"], "backbones": ["shufflenet_v2"]}
    out, failed = api.study(scenes, tmp_path / "s", **few, **options)
    epochs = results.read(out).query("technique == 'rotnet'").epoch
    assert not failed and epochs.max() == 3
    assert "†" not in (out / "table.md").read_text()
    before = (out / "results.csv").read_bytes()
    api.study(scenes, out, **few, **options)
    assert (out / "results.csv").read_bytes() == before
    with pytest.raises(BadSetting, match="until_converged"):
        api.study(scenes, out, **few, **{**options, "until_converged": 3})
