"""SimSiam, and with more views FastSiam, against their formulas written plainly."""

import pytest
import torch

from lilliput.techniques import simsiam
from tests.conftest import rng
from tests.techniques.conftest import resnet


def minus_cosine(p, z):
    return -torch.dot(p, z) / (p.norm() * z.norm())


def test_of_two_views_the_loss_is_equation_2():
    p, z = torch.randn(2, 5, 6, generator=rng(1)), torch.randn(2, 5, 6, generator=rng(2))
    plainly = sum(minus_cosine(p[0, i], z[1, i]) / 2 + minus_cosine(p[1, i], z[0, i]) / 2 for i in range(5)) / 5
    assert simsiam.away_from_others(p, z).item() == pytest.approx(plainly.item(), rel=1e-5)


def test_of_more_views_each_meets_the_mean_of_the_others():
    p, z = torch.randn(4, 3, 6, generator=rng(1)), torch.randn(4, 3, 6, generator=rng(2))
    total = 0.0
    for view in range(4):
        for image in range(3):
            others = torch.stack([z[other, image] for other in range(4) if other != view]).mean(0)
            total += minus_cosine(p[view, image], others)
    assert simsiam.away_from_others(p, z).item() == pytest.approx(total.item() / 12, rel=1e-5)


def test_no_gradient_goes_through_the_side_that_is_chased():
    torch.manual_seed(0)
    technique = simsiam.SimSiam(resnet, hidden=16, output=8, narrow=4)
    seen = []
    technique.projector.register_forward_hook(lambda _, __, output: seen.append(output))
    images = torch.rand(6, 3, 32, 32, generator=rng())
    technique.predictor = torch.nn.Sequential(technique.predictor, Cut())  # no gradient by the predictor either
    with pytest.raises(RuntimeError, match="does not require grad"):
        technique(*technique.views(images, rng())).backward()
    assert len(seen) == 2


class Cut(torch.nn.Module):
    def forward(self, x):
        return x.detach()
