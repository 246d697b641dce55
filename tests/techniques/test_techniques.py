"""The mathematics of the techniques, against the papers' formulas written plainly or cases worked by hand."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput import catalog
from lilliput.backbones import split_batch_norm
from lilliput.images import colour
from lilliput.techniques import byol, mlp, moco_v2, move_towards, rotnet, simclr, split_brain


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def resnet(*, channels=3, width=1.0):
    """Narrow, so that tests take seconds."""
    return catalog.backbone_builder("resnet18", width=0.25)(channels=channels, width=width)


@pytest.fixture
def images():
    return torch.rand(8, 3, 32, 32, generator=rng())


# -- RotNet -----------------------------------------------------------------------------------------------------------


def test_a_batch_holds_every_image_in_all_four_turns():
    corner = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    turned = rotnet.four_turns(torch.cat([corner, corner + 4]))
    assert turned[:, 0].flatten(1).tolist() == [
        [1, 2, 3, 4], [5, 6, 7, 8],  # as they are
        [2, 4, 1, 3], [6, 8, 5, 7],  # a quarter, counter-clockwise
        [4, 3, 2, 1], [8, 7, 6, 5],
        [3, 1, 4, 2], [7, 5, 8, 6],
    ]  # fmt: skip


def test_each_turn_is_scored_as_its_own_class(images):
    technique = rotnet.RotNet(resnet)
    right = F.one_hot(torch.arange(4).repeat_interleave(8)).float() * 50
    assert technique._score(right).item() == pytest.approx(0.0, abs=1e-6)
    assert technique._score(right.roll(1, 1)).item() == pytest.approx(50.0)


# -- SimCLR -----------------------------------------------------------------------------------------------------------


def nt_xent_plainly(one, two, temperature, decoupled=False):
    """Equation 1 of the paper, term by term."""
    z = [*one, *two]
    n = len(one)

    def similarity(i, j):
        return torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm()) / temperature

    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k != i and not (decoupled and k == partner)]
        total -= similarity(i, partner) - math.log(sum(math.exp(similarity(i, k)) for k in others))
    return total / (2 * n)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_papers_formula(temperature, decoupled):
    one, two = torch.randn(5, 7, generator=rng(1)), torch.randn(5, 7, generator=rng(2))
    ours = simclr.nt_xent(one, two, temperature=temperature, decoupled=decoupled)
    assert ours.item() == pytest.approx(nt_xent_plainly(one, two, temperature, decoupled).item(), rel=1e-5)


def test_nt_xent_of_a_collapsed_network_is_chance():
    same = torch.ones(16, 4)
    assert simclr.nt_xent(same, same, temperature=0.1).item() == pytest.approx(math.log(31), rel=1e-5)


def test_nt_xent_does_not_depend_on_the_order_of_the_images():
    one, two = torch.randn(6, 4, generator=rng(1)), torch.randn(6, 4, generator=rng(2))
    order = torch.randperm(6, generator=rng(3))
    a = simclr.nt_xent(one, two, temperature=0.2)
    assert torch.allclose(a, simclr.nt_xent(one[order], two[order], temperature=0.2), atol=1e-6)
    assert torch.allclose(a, simclr.nt_xent(two, one, temperature=0.2), atol=1e-6)


def test_losses_are_full_precision_under_mixed_precision():
    one, two = torch.randn(8, 16, generator=rng(1)), torch.randn(8, 16, generator=rng(2))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = simclr.nt_xent(one, two, temperature=0.1)
        logits = moco_v2.moco_logits(one, two, one, temperature=0.1)
        distance = byol.regression(one, two)
    assert torch.equal(mixed, simclr.nt_xent(one, two, temperature=0.1))
    assert torch.equal(logits, moco_v2.moco_logits(one, two, one, temperature=0.1))
    assert torch.equal(distance, byol.regression(one, two))


# -- MoCo v2 ----------------------------------------------------------------------------------------------------------


def test_moco_logits_are_the_own_key_first_then_the_queue():
    queries = torch.tensor([[3.0, 0.0], [0.0, 2.0]])  # normalised by the function
    keys = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    queue = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    logits = moco_v2.moco_logits(queries, keys, queue, temperature=0.5)
    assert torch.allclose(logits, torch.tensor([[1.2, 2.0, 0.0, -2.0], [1.6, 0.0, 2.0, 0.0]]), atol=1e-6)


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


def test_split_batch_norm_normalises_every_part_of_the_batch_apart():
    layer = split_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), groups=4)
    plain = nn.BatchNorm2d(3)
    batch = torch.randn(8, 3, 5, 5, generator=rng())
    expected = torch.cat([plain(part) for part in batch.split(2)])
    assert torch.allclose(layer(batch), expected, atol=1e-6)
    assert layer[0].momentum == 0.1
    assert set(layer.state_dict()) == {f"0.{key}" for key in plain.state_dict()}
    layer[0].running_mean.copy_(plain.running_mean), layer[0].running_var.copy_(plain.running_var)
    assert torch.allclose(layer.eval()(batch), plain.eval()(batch), atol=1e-6)


def test_split_batch_norm_moves_its_running_statistics_as_far_as_one_batch_would():
    """They once moved as far for every part, so that an encoder was judged by the mean of its last few parts."""
    layer, plain = split_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), groups=8)[0], nn.BatchNorm2d(3)
    batch = torch.ones(16, 3, 4, 4)
    for _ in range(3):
        layer(batch), plain(batch)
    assert torch.allclose(layer.running_mean, plain.running_mean, atol=1e-6)


def test_splitting_batch_norm_keeps_an_activation_fused_into_it():
    from timm.layers import BatchNormAct2d

    fused = BatchNormAct2d(4)
    batch = torch.randn(8, 4, 3, 3, generator=rng())
    expected = torch.cat([copy.deepcopy(fused)(part) for part in batch.split(4)])
    split = copy.deepcopy(split_batch_norm(nn.Sequential(fused), groups=2))
    assert torch.allclose(split(batch), expected, atol=1e-6)
    assert split(batch).min() >= 0


# -- BYOL -------------------------------------------------------------------------------------------------------------


def test_the_regression_is_the_squared_distance_of_unit_vectors():
    p, t = torch.randn(6, 5, generator=rng(1)), torch.randn(6, 5, generator=rng(2))
    plainly = ((p / p.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)) ** 2).sum(1).mean()
    assert byol.regression(p, t).item() == pytest.approx(plainly.item(), rel=1e-5)
    assert byol.regression(p, 3 * p).item() == pytest.approx(0.0, abs=1e-6)
    assert byol.regression(p, -p).item() == pytest.approx(4.0, rel=1e-6)


def test_the_loss_is_symmetric_and_only_the_online_network_learns(images):
    torch.manual_seed(0)
    technique = byol.BYOL(resnet, hidden=32, output=16).eval()
    one, two = technique.views(images, rng())
    loss = technique(one, two)
    assert torch.allclose(loss, technique(two, one), atol=1e-6)
    plainly = byol.regression(technique._predict(one), technique.target(two)) + byol.regression(
        technique._predict(two), technique.target(one)
    )
    assert torch.allclose(loss, plainly, atol=1e-6)
    loss.backward()
    assert all(p.grad is None for p in technique.target.parameters())
    assert all(p.grad is not None for p in technique.predictor.parameters())


def test_the_targets_rate_goes_from_its_base_to_one_by_a_cosine():
    assert byol.target_rate(0.0, 0.9) == pytest.approx(0.9)
    assert byol.target_rate(0.5, 0.9) == pytest.approx(0.95)
    assert byol.target_rate(1.0, 0.9) == pytest.approx(1.0)
    assert byol.target_rate(1 / 3, 0.9) == pytest.approx(1 - 0.1 * 0.75)


def test_the_target_moves_by_its_rate():
    technique = byol.BYOL(resnet, tau=0.8, hidden=32, output=16)
    before = copy.deepcopy(technique.target)
    with torch.no_grad():
        for p in [*technique.encoder.parameters(), *technique.projector.parameters()]:
            p.add_(1.0)
    technique.after_step(0.0)
    moved = zip(before.parameters(), technique.target.parameters(), strict=True)
    assert all(torch.allclose(new, old + 0.2, atol=1e-6) for old, new in moved)


def test_moving_all_the_way_is_copying():
    one, two = mlp(3, 4, 2), mlp(3, 4, 2)
    move_towards(one, two, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_byols_second_view_is_solarised_and_its_first_blurred():
    technique = byol.BYOL(resnet, hidden=32, output=16)
    flat = torch.rand(400, 3, 32, 32, generator=rng())
    one, two = technique.views(flat, rng(1))
    roughness = [v.diff(dim=3).abs().mean((1, 2, 3)) for v in (one, two)]
    assert roughness[0].mean() < roughness[1].mean()


# -- Split-Brain ------------------------------------------------------------------------------------------------------


def test_each_half_sees_its_own_channels_and_has_half_the_width():
    halves = split_brain.Halves(catalog.backbone_builder("resnet18"))
    assert (halves.lightness.channels, halves.colour.channels) == (1, 2)
    assert (halves.lightness.dim, halves.colour.dim, halves.dim) == (256, 256, 512)


def test_the_lightness_half_is_blind_to_colour_and_the_colour_half_to_grey_levels():
    halves = split_brain.Halves(resnet).eval()
    dim = halves.lightness.dim
    greys = torch.rand(1, 1, 32, 32, generator=rng()).expand(1, 3, 32, 32)
    features = halves(torch.cat([greys, greys * 0.5]))
    assert not torch.allclose(features[0, :dim], features[1, :dim], atol=1e-4)
    assert torch.allclose(features[0, dim:], features[1, dim:], atol=1e-3)


def test_what_is_painted_is_one_of_313_colours_and_50_lightnesses_in_each_cell_of_8_pixels(images):
    technique = split_brain.SplitBrain(resnet)
    for size, cells in ((32, 4), (64, 8), (96, 12), (48, 6)):
        lab = colour.rgb_to_lab(torch.rand(2, 3, size, size, generator=rng()))
        lightness, ab = split_brain.see(lab)
        painted = technique.paint_colour(technique.encoder.lightness.maps(lightness), (cells, cells))
        assert painted.shape == (2, 313, cells, cells)
        painted = technique.paint_lightness(technique.encoder.colour.maps(ab), (cells, cells))
        assert painted.shape == (2, 50, cells, cells)
        assert F.avg_pool2d(lab, split_brain.CELL, ceil_mode=True).shape[-1] == cells


def test_a_network_that_sits_on_grey_tells_what_the_majority_tells(images):
    technique = split_brain.SplitBrain(resnet)
    bins = colour.colour_bins(colour.rgb_to_lab(images)[:, 1:])
    common = bins.flatten().mode().values
    painter = technique.paint_colour
    painter.start(torch.bincount(bins.flatten(), minlength=313))
    torch.nn.init.zeros_(painter.name.weight)  # so that its bias alone speaks
    technique._score("colour", painter, torch.zeros(len(images), painter.spread.in_channels, 1, 1), bins)
    assert technique.measures["colour_told"] == technique.measures["colour_told_by_majority"]
    assert technique.measures["colour_told"] == (bins == common).float().mean()


def test_painters_start_from_how_common_each_bin_is_and_only_once(images):
    technique = split_brain.SplitBrain(resnet)
    technique(*technique.views(images, rng()))
    painter = technique.paint_lightness
    share = painter.name.bias.exp()
    assert painter.started and share.sum().item() == pytest.approx(1, abs=1e-5) and share.max() > 2 / 50
    before = painter.name.bias.clone()
    technique(*technique.views(1 - images, rng()))
    assert torch.equal(painter.name.bias, before)


# -- heads ------------------------------------------------------------------------------------------------------------


def test_heads_have_no_norm_and_no_relu_after_the_last_layer():
    head = mlp(4, 8, 3)
    assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert head[0].bias is None and head[3].bias is not None
    assert [type(layer).__name__ for layer in mlp(4, 8, 3, norm=False)] == ["Linear", "ReLU", "Linear"]
