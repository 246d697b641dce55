"""Distil against its papers' formulas written plainly, or cases worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput.errors import BadSetting
from lilliput.techniques import distil
from tests.conftest import rng
from tests.techniques.conftest import resnet


class Bright(nn.Module):
    """A teacher that says of an image how bright its channels are, and nothing else."""

    dim = 3

    def forward(self, images):
        return images.mean((2, 3))


def taught(**options):
    return distil.Distil(resnet, Bright(), **{"queue": 8, "hidden": 8, **options})


def unit(*shape, seed=1):
    return F.normalize(torch.randn(*shape, generator=rng(seed)), dim=1)


def test_a_queue_is_compared_with_by_the_papers_formula():
    own, said, queue = torch.randn(3, 5, generator=rng(9)), unit(3, 5), unit(4, 5, seed=2)
    total = 0.0
    for z, teacher in zip(own, said, strict=True):
        places = [teacher, *queue]
        student = [math.exp((z @ place / z.norm()).item() / 0.2) for place in places]
        wanted = [math.exp((teacher @ place).item() / 0.05) for place in places]
        total -= sum(w / sum(wanted) * math.log(s / sum(student)) for w, s in zip(wanted, student, strict=True))
    logits = distil.similar(own, said, queue, temperature=0.2)
    wanted = distil.similar(said, said, queue, temperature=0.05)
    assert distil.disagreement(logits, wanted).item() == pytest.approx(total / 3, rel=1e-4)


def test_regression_is_the_squared_distance_of_directions():
    own, said = torch.randn(4, 6, generator=rng(3)), unit(4, 6)
    plainly = sum(((z / z.norm() - teacher) ** 2).sum() for z, teacher in zip(own, said, strict=True)) / 4
    assert distil.apart(own, said).item() == pytest.approx(plainly.item(), rel=1e-5)
    assert distil.apart(3 * said, said).item() == pytest.approx(0, abs=1e-6)


def test_relations_are_those_of_the_batch_whatever_the_width_and_the_turn():
    own, said = torch.randn(4, 6, generator=rng(3)), unit(4, 3)
    ours, theirs = own @ own.T, said @ said.T
    plainly = sum(((ours[i] / ours[i].norm() - theirs[i] / theirs[i].norm()) ** 2).sum() for i in range(4)) / 4
    assert distil.unlike(own, said).item() == pytest.approx(plainly.item(), rel=1e-4)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=rng(5))).Q
    assert distil.unlike(2 * said @ turn, said).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("by", distil.WAYS)
def test_a_student_that_says_what_its_teacher_says_loses_least(by, images):
    technique = taught(by=by)
    loss = technique(*technique.views(images, rng()))
    technique.head = nn.Identity()
    technique.encoder.forward = lambda views: technique.standardise(technique.teacher(views))
    assert technique(*technique.views(images, rng())) < loss
    assert technique.measures["agreement"].item() == pytest.approx(1, abs=1e-5)


def test_the_teacher_is_never_trained_and_never_leaves_eval_mode(images):
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    teacher.dim = 4
    technique = distil.Distil(resnet, teacher, queue=8, hidden=8).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    loss = technique(*technique.views(images, rng()))
    loss.backward()
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_a_teacher_with_masks_of_its_own_keeps_them():
    class Masked(Bright):
        def after_step(self, progress):
            raise AssertionError("the teacher was told of a step")

    technique = distil.Distil(resnet, Masked(), queue=8, hidden=8)
    technique(torch.rand(4, 3, 32, 32, generator=rng()))
    technique.after_step(0.5)


def test_the_queue_holds_the_newest_of_what_the_teacher_said(images):
    technique = taught(queue=12)
    said = []
    for seed in (1, 2):
        technique(*technique.views(images, rng(seed)))
        technique.after_step(0.5)
        said.append(technique.said)
    newest = torch.cat(said)[-12:]
    assert {row.numpy().tobytes() for row in technique.queue} == {row.numpy().tobytes() for row in newest}


def test_a_student_that_finds_all_alike_has_the_loss_of_guessing():
    technique = taught()
    technique.head = nn.Sequential(nn.Linear(technique.encoder.dim, 3))
    torch.nn.init.zeros_(technique.head[0].weight)
    torch.nn.init.zeros_(technique.head[0].bias)
    loss = technique(torch.rand(8, 3, 32, 32, generator=rng()))
    assert loss.item() == pytest.approx(technique.measures["loss_of_guessing"].item(), rel=1e-5)


@pytest.mark.parametrize(("options", "said"), [({"by": "heart"}, "by 'heart' is none of")])
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(BadSetting, match=said):
        taught(**options)
    with pytest.raises(BadSetting, match="needs a teacher"):
        distil.Distil(resnet)
