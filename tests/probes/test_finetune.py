"""Fine-tuning: labels are learned, whatever the schedule."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput import catalog
from lilliput.optim.recipe import SMALL
from lilliput.probes import LabelledExam, finetune
from lilliput.system import signals
from lilliput.system.seeds import seeded
from tests.conftest import CPU


@pytest.fixture
def exam(scenes):
    with seeded(0):
        encoder = catalog.backbone_builder("shufflenet_v2", width=0.5)()
    return LabelledExam(encoder, scenes.train, scenes.test, plan=CPU)


def unlearned(exam):
    """What `learn` starts from."""
    with seeded(exam.seed):
        return nn.Sequential(copy.deepcopy(exam.encoder), nn.Linear(exam.encoder.dim, len(exam.classes)))


@pytest.mark.parametrize("images_seen", [1, 16, 80, 160, 176])
def test_the_whole_network_learns_for_any_number_of_steps(images_seen, exam):
    """A schedule of exactly ten steps once divided by zero."""
    before = unlearned(exam)
    model = finetune.learn(exam, SMALL.replace(batch=16), images_seen=images_seen)
    assert all(p.isfinite().all() for p in model.parameters())
    for learned, own in zip(model, before, strict=True):  # the network, and the layer upon it
        assert not any(torch.equal(p, q) for p, q in zip(learned.parameters(), own.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(exam.encoder.parameters(), before[0].parameters(), strict=True))


@pytest.mark.parametrize(("optimiser", "share"), [("sgd", 0.1), ("muon", 0.5)])  # measured: .025, .22
def test_a_few_images_are_learned(exam, optimiser, share):
    rows = exam.fit[:32]
    labels = exam.train_labels[torch.as_tensor(rows)]

    def loss(model):
        with torch.no_grad():
            return F.cross_entropy(model(exam.train.load(rows, "cpu")), labels).item()

    recipe = SMALL.replace(batch=32, optimiser=optimiser)
    model = finetune.learn(exam, recipe, images_seen=80 * 32, rows=rows)
    assert loss(model) < share * loss(unlearned(exam))


def test_a_signal_stops_it_after_a_step(exam, monkeypatch):
    """It once learned on to its end, however long."""
    rates = []
    monkeypatch.setattr(finetune, "set_rate", lambda *_, **__: rates.append(0) or len(rates) < 3 or signals.ask(15))
    monkeypatch.setattr(signals, "_asked", None)
    with pytest.raises(signals.Stopped, match="labels: stopped"):
        finetune.learn(exam, SMALL.replace(batch=16), images_seen=160)
    assert len(rates) == 3


def test_every_image_to_fit_is_seen_once_an_epoch(exam, monkeypatch):
    seen = []
    monkeypatch.setattr(finetune, "learn", lambda *given, images_seen: seen.append(images_seen))
    monkeypatch.setattr(finetune, "grade", lambda exam, model: iter(()))
    dict(finetune.finetune(exam, epochs=7))
    assert seen == [7 * len(exam.fit)]
