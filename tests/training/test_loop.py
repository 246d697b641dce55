"""The training loop: an epoch has the batches that it is due."""

import pytest
import torch

from lilliput.errors import BadData
from lilliput.training.cell import make_cell
from lilliput.training.loop import Learner, train
from tests.conftest import CPU


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_source_of_another_number_of_batches_than_due_is_refused(count):
    """One of none was a KeyError, one of fewer a silently short epoch."""
    cell = make_cell("rotnet", "shufflenet_v2", epochs=1, batch=4)
    learner = Learner(cell.build(), cell.recipe, CPU)

    def batches(epoch, rng, start):
        return (torch.rand(4, 3, 32, 32, generator=rng) for _ in range(count))

    with pytest.raises(BadData, match=f"{count} of 3 batches came in epoch 1"):
        list(train(learner, batches, 3, seed=0))
