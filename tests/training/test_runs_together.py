"""A run of several processes: its folder, refusals, a stop that one of them is asked for, and an error in one."""

import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessRaisedException, spawn

from lilliput import api
from lilliput.errors import LilliputError
from lilliput.system import distributed, progress, signals
from lilliput.training import loop, run
from lilliput.training.record import read_log, read_run
from tests.conftest import NARROW, saved_bits

SETTINGS = {**NARROW, "optimiser": "sgd", "lr": 1e-3}
REFUSED = (  # technique, settings, why, and whether the first alone finds out, which ends the others without a word
    ("rotnet", {"batch": 15}, "a batch of 15 cannot be split evenly over 2 processes; use --batch 14", False),
    ("rotnet", {"plan": {**NARROW["plan"], "accumulate": 2}}, "--accumulate 2 is for one process", True),
    ("moco_v2", {"groups": 3}, "3 groups of batch norm do not go into 2", False),
)


def pretrain(scenes, out, technique="rotnet", **settings):
    return api.pretrain(technique, "resnet18", scenes, out, **{**SETTINGS, **settings})


def started(size, folder, scenes, script):
    folder.mkdir(exist_ok=True)
    spawn(_process, (size, folder, scenes, script), nprocs=size)


def _process(rank, size, folder, scenes, script):
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": str(size), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ["LILLIPUT_HOME"] = f"{folder}/home"
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(seconds=20))
    with pytest.MonkeyPatch.context() as patch:
        script(rank, folder, scenes, patch)
    distributed.highest(0)


def _runs(rank, folder, scenes, patch):
    said, saved = [], []
    patch.setattr(run, "save_state", lambda *given, usual=run.save_state: saved.append(given) or usual(*given))
    with progress.sent_to(said.append):
        pretrain(scenes, folder / "whole")
        asked_before(4, patch, rank)
        with pytest.raises(signals.Stopped, match=r"after epoch 1 and 1 steps"):
            pretrain(scenes, folder / "cut")
        patch.undo()
        pretrain(scenes, folder / "cut")
    assert bool(saved) == bool(said) == (rank == 0)
    for number, (technique, settings, why, by_first) in enumerate(REFUSED):
        silent = by_first and rank == 1
        with pytest.raises(SystemExit if silent else LilliputError, match=None if silent else why):
            pretrain(scenes, folder / f"refused-{number}", technique, **settings)
    other = scenes._replace(pool=scenes.pool.take(range(32))) if rank else scenes
    with pytest.raises(LilliputError, match="differ in settings or images") if rank else pytest.raises(LilliputError):
        pretrain(other, folder / "other")
    assert not (folder / "other").exists() and not list(folder.glob("refused*/run.json"))


def asked_before(step, patch, rank):
    """The second process is asked to stop, by SIGTERM, before its step of that number, counted from 0."""
    calls = iter(range(100))
    patch.setattr(signals, "asked", lambda: 15 if rank == 1 and next(calls) == step else signals._asked)
    patch.setattr(signals, "_asked", None)


def _each_for_itself(rank, folder, scenes, patch):
    calls = iter(range(9))
    patch.setattr(distributed, "asked", lambda: rank == 1 and next(calls) >= 4)
    pretrain(scenes, folder / "hung")


def _one_fails(rank, folder, scenes, patch):
    if rank == 1:
        patch.setattr(loop.Learner, "step", _failing)
    pretrain(scenes, folder / "failed")


def _failing(self, images, rng):
    raise LilliputError("a step that fails")


def _cut(rank, folder, scenes, patch):
    said = []
    asked_before(1, patch, rank)
    with progress.sent_to(said.append), pytest.raises(signals.Stopped, match=r"after epoch 0 and 1 steps"):
        pretrain(scenes, folder / "cut", epochs=1)
    assert bool(said) == (rank == 0)


def test_two_processes_stop_together_and_one_goes_on(scenes, tmp_path):
    started(2, tmp_path, scenes, _cut)
    assert read_run(tmp_path / "cut")["plan"]["processes"] == 2
    said = []
    with progress.sent_to(said.append):
        pretrain(scenes, tmp_path / "cut", epochs=1)
    assert any("2 processes; it goes on with" in line for line in said if isinstance(line, str))
    assert [row["steps"] for row in read_log(tmp_path / "cut")] == [3]
    assert read_run(tmp_path / "cut")["plan"]["processes"] == 1


@pytest.mark.heavy
def test_two_processes_leave_the_folder_that_one_leaves(scenes, tmp_path):
    started(2, tmp_path, scenes, _runs)
    alone = pretrain(scenes, tmp_path / "alone")
    for one, two in zip(read_log(alone), read_log(tmp_path / "whole"), strict=True):
        assert two.keys() == one.keys() and two["steps"] == one["steps"]
        for name in ("loss", "gradient_norm", "turns_told", "effective_rank"):
            assert two[name] == pytest.approx(one[name], rel=1e-2), name
    assert saved_bits(tmp_path / "whole").keys() == saved_bits(alone).keys()
    assert read_run(tmp_path / "whole")["plan"]["processes"] == 2

    cut, whole = saved_bits(tmp_path / "cut"), saved_bits(tmp_path / "whole")
    assert all(cut[name] == whole[name] for name in whole if name.startswith("encoder"))


@pytest.mark.heavy
def test_an_error_in_one_process_ends_all(scenes, tmp_path):
    with pytest.raises(ProcessRaisedException, match=r"a step that fails|another process of this run has ended"):
        started(2, tmp_path, scenes, _one_fails)


@pytest.mark.heavy
def test_processes_that_stop_each_for_itself_hang(scenes, tmp_path):
    """Two nodes that hung: one had stopped, the other waited for it. The stop is exchanged before every step."""
    with pytest.raises(ProcessRaisedException, match=r"[Tt]imed out|another process of this run has ended"):
        started(2, tmp_path, scenes, _each_for_itself)
