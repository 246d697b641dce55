"""Layers, on stages whose worth is known."""

import torch

from lilliput.probes import LabelledExam, layers
from lilliput.studies.judge import Pixels
from tests.conftest import CPU, rng


def test_the_best_stage_is_the_one_that_tells_the_classes_and_the_last_stands_beside_it(scenes, monkeypatch):
    """Of four stages the third has the label, with some noise; the others are noise alone."""
    draw = rng(1)

    def stages(encoder, images, *, plan):
        noise = [torch.randn(len(images), 12, generator=draw) for _ in range(4)]
        noise[2][:, :10] += 5 * torch.nn.functional.one_hot(torch.as_tensor(images.labels), 10)
        return noise

    monkeypatch.setattr(layers, "extract_stages", stages)
    found = dict(layers.layers(LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)))
    assert found["best_stage"] == 3 and found["accuracy_best_stage"] == found["linear_stage_3"] > 0.9
    assert found["held_out_accuracy_best_stage"] == found["held_out_linear_stage_3"] > 0.9
    assert found["knn_stage_3"] > 0.9
    for name in ("", "held_out_"):
        assert found[f"{name}accuracy_last_stage"] == found[f"{name}linear_stage_4"] < 0.5
    assert found["linear_stage_4"] != found["linear_stage_2"]
