"""Randomness by number: the numbers stay what they are, and nothing else is disturbed."""

import torch
from torch import nn

from lilliput.system.seeds import epoch_seed, seeded


def test_the_seed_of_an_epoch_is_the_number_that_it_always_was():
    assert epoch_seed(0, 1) == 2918264622725855778
    assert len({epoch_seed(seed, epoch) for seed in range(10) for epoch in range(10)}) == 100


def test_layers_made_under_a_seed_are_equal_and_the_global_stream_goes_on_undisturbed():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weights = []
    for _ in range(2):
        with seeded(0):
            weights.append(nn.Linear(3, 3).weight)
    assert torch.equal(*weights) and torch.equal(torch.rand(3), expected)
