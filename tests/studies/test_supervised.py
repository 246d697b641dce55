"""The supervised baseline: the same bits however often it is interrupted; it once heard no signal and kept nothing."""

import signal

import pytest

from lilliput import api, catalog
from lilliput.optim.recipe import SMALL
from lilliput.probes import LabelledExam, finetune
from lilliput.studies import results, supervised
from lilliput.system import signals
from lilliput.system.resources import Resources
from lilliput.system.seeds import seeded
from lilliput.training.state import states
from tests.conftest import CPU, interrupt_at
from tests.studies.conftest import SHORT

STEPS = 26  # of 11 in a pass over the images


@pytest.fixture(scope="module")
def learning(scenes):
    """Makes one at its beginning, of so many steps."""
    with seeded(0):
        encoder = catalog.backbone_builder("shufflenet_v2", width=0.5)()
    exam = LabelledExam(encoder, scenes.train, scenes.test, plan=CPU)
    return lambda steps=STEPS: finetune.Learning(exam, SMALL.replace(batch=16), images_seen=16 * steps)


@pytest.fixture(scope="module")
def whole(learning, tmp_path_factory):
    """The bits of one that nothing interrupted."""
    return bits(learning(), tmp_path_factory.mktemp("whole"))


def bits(learned, folder):
    supervised.learn(learned, folder, Resources())
    return {name: value.numpy().tobytes() for name, value in learned.model.state_dict().items()}


def ask_at(patch, step):
    """A signal comes during this step of those that are taken from here on."""
    usual, taken = finetune.set_rate, []

    def set_rate(*given, **named):
        taken.append(0)
        if len(taken) == step:
            signals.ask(signal.SIGTERM)
        return usual(*given, **named)

    patch.setattr(finetune, "set_rate", set_rate)
    patch.setattr(signals, "_asked", None)


def test_stopped_by_a_signal_it_goes_on_with_the_same_bits(learning, whole, tmp_path, monkeypatch):
    done = 0
    for steps in (5, 17, 3):  # within the first pass, at the end of the second, in the third
        done += steps
        with monkeypatch.context() as patch:
            ask_at(patch, steps)
            with pytest.raises(signals.Stopped, match=f"stopped after {done} of {STEPS} steps, all of it saved"):
                supervised.learn(learning(), tmp_path, Resources())
    assert bits(learning(), tmp_path) == whole


def test_killed_it_goes_on_from_what_it_saved_last(learning, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, finetune, "set_rate", 8)
        with pytest.raises(KeyboardInterrupt):
            supervised.learn(learning(), tmp_path, Resources())
    assert [path.name for path in states(tmp_path)] == [f"state_000_00000{n}.safetensors" for n in (6, 7)]
    assert bits(learning(), tmp_path) == whole


def test_what_it_spent_before_counts(learning, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        ask_at(patch, 2)
        with pytest.raises(signals.Stopped):
            supervised.learn(learning(), tmp_path, Resources())
    monkeypatch.setattr(supervised, "Spending", lambda country, share, before: Kept(before))
    assert supervised.learn(learning(), tmp_path, Resources())["total_seconds"] > 0


class Kept:
    """Counts what was spent before alone."""

    def __init__(self, before):
        self.before = before

    def so_far(self):
        return self.before

    def stop(self):
        pass


def test_the_state_of_another_training_is_not_gone_on_with(learning, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        ask_at(patch, 30)
        with pytest.raises(signals.Stopped):
            supervised.learn(learning(40), tmp_path, Resources())
    assert bits(learning(), tmp_path) == whole and not states(tmp_path)


def test_a_study_goes_on_with_it_and_keeps_no_state_once_its_rows_are_there(scenes, tmp_path, monkeypatch):
    words = {
        "techniques": ["rotnet"],
        "backbones": ["shufflenet_v2"],
        "baselines": ["supervised"],
        "probes": ["linear"],
    }
    whole, _ = api.study(scenes, tmp_path / "whole", **words, **SHORT)
    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        ask_at(patch, 3)
        with pytest.raises(signals.Stopped):
            api.study(scenes, out, **words, **SHORT)
    folder = out / "cells" / "supervised-shufflenet_v2-0"
    assert [path.name for path in states(folder)] == ["state_000_000003.safetensors"]
    api.study(scenes, out, **words, **SHORT)
    assert not states(folder)
    columns = ["technique", "epoch", "probe", "metric", "value"]
    cut, whole = (results.read(place)[columns].values.tolist() for place in (out, whole))
    assert cut == whole and {"supervised", "rotnet"} == {row[0] for row in cut}
