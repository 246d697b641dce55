"""More than two views: small ones, each told by what the whole ones say of its image."""

import pytest
import torch
import torch.nn.functional as F

from lilliput import catalog
from lilliput.techniques.byol import regression
from lilliput.techniques.moco_v2 import moco_logits
from lilliput.techniques.simclr import nt_xent, small_xent
from tests.conftest import rng
from tests.techniques.conftest import resnet

COMPARING = ("simclr", "moco_v2", "byol")


def built(name, **options):
    torch.manual_seed(0)
    return catalog.technique(name)(resnet, **options)


@pytest.mark.parametrize("name", COMPARING)
def test_small_views_are_of_half_the_side_and_come_image_after_image(name, images):
    views = built(name, small_views=3, small_area=0.1).views(images, rng(1))
    assert views[-1].shape == (3 * len(images), 3, 16, 16)
    whole = built(name).views(images, rng(1))
    assert all(torch.equal(one, two) for one, two in zip(whole, views[:-1], strict=True))
    flat = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 32, 32) / 10  # told apart by brightness, without colour
    quiet = {"simclr": {"strength": 0.0, "grey": 0.0, "blur": 0.0}}.get(name)
    if quiet:
        small = built(name, small_views=2, **quiet).views(flat, rng(1))[-1]
        assert torch.allclose(small.mean((1, 2, 3)), torch.arange(8.0).repeat(2) / 10, atol=1e-5)


@pytest.mark.parametrize("name", COMPARING)
def test_without_small_views_the_loss_is_what_it_was(name, images):
    plain, ready = built(name), built(name, small_views=2)
    views = ready.views(images, rng(1))
    assert torch.equal(plain(*views[:-1]), ready(*views[:-1]))
    assert not torch.equal(built(name)(*views[:-1]), built(name, small_views=2)(*views))


def test_simclrs_small_views_are_drawn_to_the_mean_of_the_whole_ones():
    one, two, small = (torch.randn(count, 5, generator=rng(count)) for count in (3, 3, 6))
    two = two + 1
    means = F.normalize(F.normalize(one) + F.normalize(two))
    by_hand = [
        -torch.log(
            torch.exp(F.normalize(small[k], dim=0) @ means[k % 3] / 0.2)
            / torch.exp(means @ F.normalize(small[k], dim=0) / 0.2).sum()
        )
        for k in range(6)
    ]
    assert torch.allclose(small_xent(small, one, two, temperature=0.2), torch.stack(by_hand).mean())
    one.requires_grad_()
    assert not small_xent(small, one, two, temperature=0.2).requires_grad


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_loss_is_a_mean_of_both_by_the_weight(weight, images):
    model = built("simclr", small_views=2, small_weight=weight)
    one, two, small = model.views(images, rng(1))
    found = model(one, two, small)
    again = built("simclr", small_views=2)  # batch norm's statistics have moved
    first, second = again.projector(again.encoder(torch.cat([one, two]))).chunk(2)
    whole = nt_xent(first, second, temperature=0.1)
    own = small_xent(again.projector(again.encoder(small)), first, second, temperature=0.1)
    assert torch.allclose(found, (1 - weight) * whole + weight * own, atol=1e-5)


def test_mocos_small_queries_look_for_the_keys_of_their_images(images):
    model = built("moco_v2", queue=16, small_views=2, small_weight=1.0)
    views = model.views(images, rng(1))
    found = model(*views)
    again = built("moco_v2", queue=16)
    again(*views[:3])  # makes the keys, and moves batch norm as the other did
    of_each_image = views[3][torch.arange(16).view(2, 8).T.flatten()]  # in its group of batch norm
    queries = again.head(again.encoder(of_each_image))
    logits = moco_logits(queries, model.keys.repeat_interleave(2, 0), model.queue, temperature=0.2)
    assert torch.allclose(found, -logits.log_softmax(1)[:, 0].mean(), atol=1e-5)


def test_byols_small_views_tell_the_mean_of_both_targets(images):
    model = built("byol", hidden=32, output=16, small_views=2, small_weight=1.0)
    one, two, small = model.views(images, rng(1))
    found = model(one, two, small)
    again = built("byol", hidden=32, output=16)
    again(one, two)
    with torch.no_grad():
        targets = built("byol", hidden=32, output=16).target
        first, second = F.normalize(targets(one)), F.normalize(targets(two))
    expected = 2 * regression(again._predict(small), (first + second).repeat(2, 1) / 2)
    assert torch.allclose(found, expected, atol=1e-5) and 0 < found < 8
