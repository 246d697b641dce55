"""SwAV against its paper's formulas written plainly, or cases worked by hand."""

import math

import pytest
import torch

from lilliput.techniques import swav
from tests.conftest import rng
from tests.techniques.conftest import resnet

SMALL = {"hidden": 16, "output": 8, "prototypes": 6, "small_views": 0}


def test_codes_deal_every_image_out_and_every_prototype_alike():
    similar = torch.randn(64, 4, generator=rng()).mul(0.1) + torch.tensor([0.0, 0.0, 0.05, 0.1])
    codes = swav.dealt_evenly(similar, evenness=0.05)
    torch.testing.assert_close(codes.sum(1), torch.ones(64))
    torch.testing.assert_close(codes.sum(0), torch.full((4,), 16.0), rtol=0.2, atol=0)
    plain = (similar / 0.05).softmax(1)
    assert (plain.sum(0) - 16).abs().max() > 3 * (codes.sum(0) - 16).abs().max()


def test_a_round_is_one_of_sinkhorn_and_knopp(monkeypatch):
    monkeypatch.setattr(swav, "ROUNDS", 1)
    similar = torch.tensor([[0.0, math.log(2)], [math.log(3), 0.0]])
    q = [[1.0, 2.0], [3.0, 1.0]]
    columns = [q[0][0] + q[1][0], q[0][1] + q[1][1]]
    q = [[q[i][j] / columns[j] for j in (0, 1)] for i in (0, 1)]
    expected = torch.tensor([[q[i][j] / sum(q[i]) for j in (0, 1)] for i in (0, 1)])
    torch.testing.assert_close(swav.dealt_evenly(similar, evenness=1.0), expected)


def test_a_prototype_far_from_every_image_gets_its_share_too():
    """Sums below 1e-12 were once divided by that, so a prototype whose nearest image was 28 evennesses farther than the
    best was never lifted."""
    similar = torch.rand(64, 6, generator=rng()).mul(0.2) + torch.tensor([0.8, 0.7, 0.6, 0.2, -0.4, -1.0])
    codes = (similar.double() / 0.02).exp()  # plainly; float64 holds exp of -100 and less
    for _ in range(swav.ROUNDS):
        codes = codes / codes.sum(0)
        codes = codes / codes.sum(1, keepdim=True)
    found = swav.dealt_evenly(similar, evenness=0.02)
    torch.testing.assert_close(found.double(), codes, rtol=1e-3, atol=1e-6)
    assert found.sum(0).min() > 1


def test_the_loss_tells_each_view_the_other_ones_code(images):
    torch.manual_seed(0)
    technique = swav.SwAV(resnet, **SMALL).eval()
    one, two = technique.views(images, rng())
    units = [torch.nn.functional.normalize(technique.projector(technique.encoder(view)), dim=1) for view in (one, two)]
    similar = [view @ technique.prototypes.weight.T for view in units]
    codes = [swav.dealt_evenly(view, evenness=0.05) for view in similar]
    plainly = 0.0
    for own, other in ((0, 1), (1, 0)):
        odds = (similar[other] / 0.1).exp()
        plainly -= (codes[own] * (odds / odds.sum(1, keepdim=True)).log()).sum(1).mean().item() / 2
    assert technique(one, two).item() == pytest.approx(plainly, rel=1e-4)


def test_prototypes_are_of_unit_length_from_the_start_and_after_each_step(images):
    technique = swav.SwAV(resnet, **SMALL)
    assert technique.prototypes.weight.norm(dim=1).tolist() == pytest.approx([1] * 6)
    technique(*technique.views(images, rng()))
    with torch.no_grad():
        technique.prototypes.weight.mul_(3)
    technique.after_step(0.0)
    assert technique.prototypes.weight.norm(dim=1).tolist() == pytest.approx([1] * 6)


def test_past_projections_help_once_the_queue_is_full_and_the_time_has_come(images):
    technique = swav.SwAV(resnet, **SMALL, queue=12, from_share=0.5)
    for progress, kept, in_use in ((0.0, 8, False), (0.4, 12, False), (0.6, 12, True)):
        technique(*technique.views(images, rng()))
        technique.after_step(progress)
        assert (technique.kept.item(), technique.in_use.item()) == (kept, in_use)
    assert torch.equal(technique.queue[:, :8], technique.projected)
    similar, past = torch.randn(8, 6, generator=rng()) * 0.1, technique.queue[0]
    together = torch.cat([similar, swav.similarity(past, technique.prototypes.weight)])
    technique.projected = torch.zeros(2, 8, 8)
    torch.testing.assert_close(technique._dealt(similar, past), swav.dealt_evenly(together, evenness=0.05)[:8])


def test_guessing_is_all_prototypes_alike():
    technique, even = swav.SwAV(resnet, **SMALL), torch.full((3, 6), 1 / 6)
    assert swav.told(torch.zeros(3, 6), even, temperature=0.1).item() == pytest.approx(technique.guessing(3))
