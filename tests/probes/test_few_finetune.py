"""Fine-tuning with few labels."""

import numpy as np
from PIL import Image

from lilliput import catalog
from lilliput.datasets import open_data
from lilliput.probes import LabelledExam, few_finetune
from tests.conftest import CPU


def test_a_draw_is_seen_for_its_epochs_and_for_a_hundred_steps_at_least(scenes, monkeypatch):
    seen = []
    encoder = catalog.backbone_builder("shufflenet_v2", width=0.5)()

    def learn(exam, recipe, *, images_seen, rows):
        seen.append((len(rows), images_seen))
        return encoder

    monkeypatch.setattr(few_finetune, "learn", learn)
    monkeypatch.setattr(few_finetune, "EPOCHS", {10: 30, 100: 30})
    exam = LabelledExam(encoder, scenes.train, scenes.test, plan=CPU)
    dict(few_finetune.few_finetune(exam, draws=1, batch=8))
    (few, of_few), (many, of_many) = seen
    assert of_few == max(30 * few, 100 * 8) and of_many == 30 * many > 100 * 8


def test_few_labels_are_enough_for_dark_and_light(tmp_path):
    rng = np.random.default_rng(0)
    for split_name in ("train", "test"):
        for place, name in enumerate(("dark", "light")):
            folder = tmp_path / "two" / split_name / name
            folder.mkdir(parents=True)
            for number in range(60):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 120 * place
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    two = open_data(tmp_path / "two", image_size=32)
    encoder = catalog.backbone_builder("resnet18", width=0.25)()
    found = dict(few_finetune.few_finetune(LabelledExam(encoder, two.train, two.test, plan=CPU), draws=1))
    assert (found["images_1_percent"], found["images_10_percent"]) == (2, 12)
    assert found["accuracy_10_percent"] > 0.9 and found["held_out_accuracy_10_percent"] > 0.9
    assert found["accuracy_10_percent"] != found["accuracy_1_percent"]
