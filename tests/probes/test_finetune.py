"""Fine-tuning: labels are learned, whatever the schedule."""

import pytest

from lilliput import catalog
from lilliput.optim.recipe import SMALL
from lilliput.probes import LabelledExam, finetune
from tests.conftest import CPU


@pytest.mark.parametrize("images_seen", [1, 16, 80, 160, 176])
def test_labels_are_learned_for_any_number_of_steps(images_seen, scenes):
    """A schedule of exactly ten steps once divided by zero."""
    exam = LabelledExam(catalog.backbone_builder("shufflenet_v2", width=0.5)(), scenes.train, scenes.test, plan=CPU)
    model = finetune.learn(exam, SMALL.replace(batch=16), images_seen=images_seen)
    assert all(p.isfinite().all() for p in model.parameters())
