"""The loop: stopped and gone on within an epoch, in mixed precision, ended by a loss that is no number or too few
batches."""

import itertools
import math

import pytest
import torch

from lilliput import api
from lilliput.errors import BadData, LilliputError
from lilliput.system import signals
from lilliput.techniques import byol
from lilliput.training import loop
from lilliput.training.cell import make_cell
from lilliput.training.loop import Learner, set_rate, train
from lilliput.training.record import read_log
from lilliput.training.state import newest_state
from tests.conftest import CPU, NARROW, TECHNIQUES, heavy, measured_log, saved_bits
from tests.training.conftest import GUARDED, flags_of


@pytest.mark.parametrize("technique", ["byol", *heavy("rotnet", "moco_v2", "split_brain", "simclr")])
def test_a_run_stopped_within_an_epoch_ends_with_the_same_bits(technique, scenes, tmp_path, monkeypatch):
    whole = api.pretrain(technique, "resnet18", scenes, tmp_path / "whole", **NARROW)
    for step in (2, 5):  # of nine in three epochs
        with monkeypatch.context() as patch:
            calls = itertools.count(1)
            patch.setattr(signals, "asked", lambda calls=calls, step=step: next(calls) > step)
            with pytest.raises(signals.Stopped, match="goes on from there"):
                api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **NARROW)
    cut = api.pretrain(technique, "resnet18", scenes, tmp_path / "cut", **NARROW)
    resumed, expected = saved_bits(cut), saved_bits(whole)
    assert all(resumed[name] == expected[name] for name in expected if name.startswith("encoder"))
    assert measured_log(cut) == measured_log(whole)


def test_every_step_takes_the_rate_of_its_middle(scenes, tmp_path, monkeypatch):
    """A warm-up from zero does not lose its first step, a cosine to zero not its last."""
    rates = []
    monkeypatch.setattr(loop, "set_rate", lambda optimiser, rate, **_: rates.append(rate) or set_rate(optimiser, rate))
    run = api.pretrain("rotnet", "shufflenet_v2", scenes, tmp_path, lr=0.5, warmup=1, **NARROW)
    warm = [0.5 * (step + 0.5) / 3 for step in range(3)]  # of three epochs of three steps
    falling = [0.5 * (1 + math.cos(math.pi * (step + 0.5) / 6)) / 2 for step in range(6)]
    assert rates == pytest.approx([*warm, *falling])
    assert [row["learning_rate"] for row in read_log(run)] == pytest.approx([rates[2], rates[5], rates[8]])


def test_a_loss_that_is_no_number_ends_the_run_with_a_remedy_and_loses_nothing(more_scenes, tmp_path):
    class Broken(byol.BYOL):
        def forward(self, *views):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(*views) * (torch.nan if self.calls > 20 else 1)

    with pytest.raises(LilliputError, match=r"the loss is nan in epoch 2; try .*--lr"):
        flags_of("byol", more_scenes, tmp_path, kind=Broken, **GUARDED)
    assert newest_state(tmp_path).epoch == 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_ends_the_run_too(value, more_scenes, tmp_path):
    """Of the last step of an epoch it spoils what the next begins with, and was logged as 0."""

    class Broken(byol.BYOL):
        def forward(self, *views):
            self.calls = getattr(self, "calls", 0) + 1
            loss = super().forward(*views)
            if self.calls == 28:  # the last of the second epoch
                loss.register_hook(lambda gradient: gradient * value)
            return loss

    with pytest.raises(LilliputError, match=r"the gradient's norm is (nan|inf) in epoch 2; try .*--lr"):
        flags_of("byol", more_scenes, tmp_path, kind=Broken, **GUARDED)
    assert newest_state(tmp_path).epoch == 1


def test_steps_that_mixed_precision_skips_are_counted_and_have_no_norm():
    technique = make_cell("rotnet", "squeezenet", options={"width": 0.25}).build()
    learner = Learner(technique, technique.small, CPU)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=3e38)  # the first step's gradient overflows
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = learner.step(images, torch.Generator().manual_seed(0))
    assert found["skipped"] == 1 and found["gradient_norm"] == 0
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    found = learner.step(images, torch.Generator().manual_seed(0))
    assert found["skipped"] == 0 and found["gradient_norm"] > 0


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(scenes, tmp_path):
    with pytest.raises(LilliputError, match="try a learning rate below"):
        api.pretrain("rotnet", "resnet18", scenes, tmp_path / "run", **NARROW, lr=1e30, optimiser="sgd")


def test_mixed_precision_trains_on_a_cpu(scenes, tmp_path):
    for technique in TECHNIQUES:
        options = {**NARROW, "epochs": 1, "plan": {"precision": "bf16"}}
        out = api.pretrain(technique, "resnet18", scenes, tmp_path / technique, **options)
        assert torch.isfinite(torch.tensor(read_log(out)[-1]["loss"]))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_source_of_another_number_of_batches_than_due_is_refused(count):
    """One of none was a KeyError, one of fewer a silently short epoch."""
    cell = make_cell("rotnet", "shufflenet_v2", epochs=1, batch=4)
    learner = Learner(cell.build(), cell.recipe, CPU)

    def batches(epoch, rng, start):
        return (torch.rand(4, 3, 32, 32, generator=rng) for _ in range(count))

    with pytest.raises(BadData, match=f"{count} of 3 batches came in epoch 1"):
        list(train(learner, batches, 3, seed=0))
