"""RotNet against its paper's formulas written plainly, or cases worked by hand."""

import pytest
import torch
import torch.nn.functional as F

from lilliput.techniques import rotnet
from tests.techniques.conftest import resnet


def test_a_batch_holds_every_image_in_all_four_turns():
    corner = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    turned = rotnet.four_turns(torch.cat([corner, corner + 4]))
    as_they_are = [[1, 2, 3, 4], [5, 6, 7, 8]]
    by_a_quarter = [[2, 4, 1, 3], [6, 8, 5, 7]]  # counter-clockwise
    by_a_half = [[4, 3, 2, 1], [8, 7, 6, 5]]
    by_three_quarters = [[3, 1, 4, 2], [7, 5, 8, 6]]
    expected = as_they_are + by_a_quarter + by_a_half + by_three_quarters
    assert turned[:, 0].flatten(1).tolist() == expected


def test_each_turn_is_scored_as_its_own_class(images):
    technique = rotnet.RotNet(resnet)
    right = F.one_hot(torch.arange(4).repeat_interleave(8)).float() * 50
    assert technique._score(right).item() == pytest.approx(0.0, abs=1e-6)
    assert technique._score(right.roll(1, 1)).item() == pytest.approx(50.0)
