"""MoCo v2 against its paper's formulas written plainly, or cases worked by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lilliput.techniques import moco_v2
from tests.conftest import rng
from tests.techniques.conftest import resnet


def test_moco_logits_are_the_own_key_first_then_the_queue():
    queries = torch.tensor([[3.0, 0.0], [0.0, 2.0]])  # normalised by the function
    keys = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    queue = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    logits = moco_v2.moco_logits(queries, keys, queue, temperature=0.5)
    assert torch.allclose(logits, torch.tensor([[1.2, 2.0, 0.0, -2.0], [1.6, 0.0, 2.0, 0.0]]), atol=1e-6)


def test_a_key_is_found_where_its_logit_is_the_largest(images, monkeypatch):
    technique = moco_v2.MoCoV2(resnet, queue=2)
    logits = torch.tensor([[3.0, 1, 2], [0, 1, 2], [5, 4, 1], [2, 1, 0]])
    monkeypatch.setattr(moco_v2, "moco_logits", lambda *given, **named: logits)
    technique(*technique.views(images, rng()))
    assert technique.measures["key_found"].item() == 3 / 4


@pytest.mark.parametrize(("size", "batches"), [(7, [3, 3, 3]), (5, [8]), (4, [2, 2, 2]), (6, [4, 1])])
def test_the_queue_holds_the_newest_keys_whatever_its_size(size, batches):
    technique = moco_v2.MoCoV2(resnet, queue=size, output=2)
    random_start = technique.queue.clone()
    seen = []
    for number, count in enumerate(batches):
        technique.keys = torch.full((count, 2), float(number)) + torch.arange(count)[:, None] / 100
        seen += list(technique.keys)
        technique.after_step(0.0)
    expected = {tuple(key.tolist()) for key in [*random_start, *seen][-size:]}
    if len(seen) < size:  # slots not yet reached keep their random start
        expected = {tuple(k.tolist()) for k in [*seen, *random_start[len(seen) :]]}
    assert {tuple(key.tolist()) for key in technique.queue} == expected


def test_the_key_encoder_follows_by_its_momentum_and_gets_no_gradient(images):
    technique = moco_v2.MoCoV2(resnet, queue=16, momentum=0.75)
    before = copy.deepcopy(technique.key)
    technique(*technique.views(images, rng())).backward()
    assert all(p.grad is None for p in technique.key.parameters())
    with torch.no_grad():
        for p in technique.encoder.parameters():
            p.add_(1.0)
    technique.after_step(0.0)
    for old, new, online in zip(
        before[0].parameters(), technique.key[0].parameters(), technique.encoder.parameters(), strict=True
    ):
        assert torch.allclose(new, 0.75 * old + 0.25 * online, atol=1e-6)


def test_keys_come_back_in_the_order_of_their_queries(images):
    technique = moco_v2.MoCoV2(resnet, queue=16, groups=1).eval()  # eval: each key depends on its own image alone
    one, two, order = technique.views(images, rng())
    technique(one, two, order)
    assert torch.allclose(technique.keys, F.normalize(technique.key(two), dim=1), atol=1e-5)


def test_the_logits_are_full_precision_under_mixed_precision():
    one, two = torch.randn(8, 16, generator=rng(1)), torch.randn(8, 16, generator=rng(2))
    with torch.autocast("cpu", torch.bfloat16):
        logits = moco_v2.moco_logits(one, two, one, temperature=0.1)
    assert torch.equal(logits, moco_v2.moco_logits(one, two, one, temperature=0.1))
