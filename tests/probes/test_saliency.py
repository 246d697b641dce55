"""Saliency, against what is known of networks made by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.probes import MaskedExam, half_interval
from lilliput.probes.linear import Classifier, Fitted
from lilliput.probes.saliency import _by_class, gain_over_others, on_object, saliency, saliency_maps
from tests.conftest import CPU, rng


class Weighing(nn.Module):
    """Two features: the sums of the pixels, each weighed by its own plane."""

    def __init__(self, planes):
        super().__init__()
        self.planes = planes  # [2, 3, H, W]

    def forward(self, images):
        return torch.einsum("bchw,dchw->bd", images, self.planes)


def plain(dim, classes):
    weights = torch.randn(dim, classes, generator=rng(5))
    return Classifier(torch.zeros(dim), torch.ones(dim), weights, torch.zeros(classes))


def test_the_gradient_of_a_linear_network_is_its_weights_and_integrated_gradients_weigh_the_pixels_by_them():
    planes, images = torch.randn(2, 3, 8, 8, generator=rng(1)), torch.rand(4, 3, 8, 8, generator=rng(2))
    network, classify, labels = Weighing(planes), plain(2, 3), torch.tensor([0, 1, 2, 0])
    by_pixel = torch.einsum("dchw,dk->kchw", planes, classify.weights)[labels]  # written by hand: d score / d pixel
    found = {m: saliency_maps(network, classify, images, labels, m) for m in ("gradient", "smoothgrad")}
    for maps in found.values():  # noise changes no gradient of a linear network
        torch.testing.assert_close(maps, by_pixel.abs().amax(1))
    integrated = saliency_maps(network, classify, images, labels, "integrated_gradients")
    torch.testing.assert_close(integrated, (by_pixel * (images - 0.5)).abs().sum(1), rtol=1e-4, atol=1e-5)


def test_grad_cam_is_the_positive_part_of_the_gradients_mean_times_the_maps():
    encoder = catalog.backbone_builder("resnet18", width=0.25)().eval()
    classify = plain(encoder.dim, 3)
    images, labels = torch.rand(2, 3, 64, 64, generator=rng()), torch.tensor([2, 0])
    found = saliency_maps(encoder, classify, images, labels, "grad_cam")
    maps = encoder.maps(images).detach().requires_grad_()
    classify(maps.mean((2, 3))).gather(1, labels[:, None]).sum().backward()
    weight = maps.grad.mean((2, 3), keepdim=True)  # the paper's alpha
    cam = (weight * maps).sum(1).relu().detach() * maps[0, 0].numel()
    cam = nn.functional.interpolate(cam[:, None], (64, 64), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, cam, rtol=1e-3, atol=1e-4)


def test_the_share_on_the_object_and_the_pointing_game_by_hand():
    maps = torch.tensor([[[1.0, 3.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 5.0]]])
    masks = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    share, hit = on_object(maps, masks)
    assert share.tolist() == [0.75, 0.25] and hit.tolist() == [1.0, 0.0]


def test_the_gain_over_others_masks_by_hand():
    maps = torch.tensor([[[3.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    masks = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]]])
    parts = gain_over_others(maps, masks, torch.tensor([4, 4, 1]))
    assert parts[:2].mean() == (0.75 - 0.25) / 2 + (0.5 - 0.25) / 2 and parts[2].isnan()
    assert parts[:2].tolist() == [0.75 - 0.25 - 0.25 + 0.25, 0.5 - 0.25 - 0.25 + 0.25]


def objects_near_the_middle(count=60, size=32):
    """Discs [N, H, H] whose centres stray around the middle, and their classes, of which one has larger discs."""
    labels = torch.arange(count) % 3
    place = torch.arange(size) + 0.5
    centre = size / 2 + 3 * torch.randn(count, 2, 1, 1, generator=rng(1))
    far = ((place[:, None] - centre[:, 0]) ** 2 + (place - centre[:, 1]) ** 2).sqrt()
    return (far < 5 + 2 * labels[:, None, None]).float(), labels


def gaussian(centre_x, centre_y, size=32, sigma=6.0):
    place = torch.arange(size) + 0.5
    return torch.exp(-((place[:, None] - centre_y) ** 2 + (place - centre_x) ** 2) / (2 * sigma**2))


def test_a_saliency_that_sits_in_the_middle_gains_over_chance_but_not_over_the_masks_of_others():
    """The gain over chance says that objects are in the middle: +.08 on STL-10 for one fixed map."""
    masks, labels = objects_near_the_middle()
    maps = gaussian(16, 16).expand(len(masks), -1, -1)
    over_chance = on_object(maps, masks)[0] - masks.mean((1, 2))
    assert over_chance.mean() > 0.08
    parts = gain_over_others(maps, masks, labels)
    assert parts.mean().abs() < 1e-6 and parts.abs().max() < 0.02
    blind = torch.stack([gaussian(*(16 + 3 * torch.randn(2, generator=rng(s)))) for s in range(len(masks))])
    parts = gain_over_others(blind, masks, labels)
    assert parts.mean().abs() < half_interval(parts) < 0.02


def test_a_saliency_that_follows_each_object_gains_over_the_masks_of_others_and_one_that_flees_it_loses():
    masks, labels = objects_near_the_middle()
    place = torch.arange(32) + 0.5
    area = masks.sum((1, 2))
    down, across = (masks.sum(2) @ place) / area, (masks.sum(1) @ place) / area
    follows = torch.stack([gaussian(x, y) for x, y in zip(across, down, strict=True)])
    flees = torch.stack([gaussian(32 - x, 32 - y) for x, y in zip(across, down, strict=True)])
    for maps, sign in ((follows, 1), (flees, -1)):
        parts = gain_over_others(maps, masks, labels) * sign
        assert parts.mean() - half_interval(parts) > 0.02


def test_the_interval_of_the_gain_over_others_holds_zero_in_95_of_100_studies_of_blind_maps():
    held, studies = 0, 300
    for study in range(studies):
        maps = torch.rand(40, 4, 4, generator=rng(study)) ** 3
        masks = (torch.rand(40, 4, 4, generator=rng(1000 + study)) < 0.4).float()
        parts = gain_over_others(maps, masks, torch.arange(40) % 2)
        held += abs(parts.mean()) < half_interval(parts)
    assert 0.92 < held / studies < 0.98


def test_a_network_that_sees_the_object_alone_is_told_from_one_that_sees_all(scenes, monkeypatch):
    """The score may only hang on what a network sees: the middle, where things are, or everything alike."""
    masks = torch.as_tensor(np.array(scenes.test.masks)).float().mean(0)
    planes = torch.stack([(masks > masks.mean()).float().expand(3, -1, -1), torch.ones(3, 32, 32)])
    classify = Classifier(torch.zeros(1), torch.ones(1), torch.ones(1, 10), torch.zeros(10))
    monkeypatch.setattr(catalog.module("probes", "saliency"), "fitted", lambda exam: Fitted(classify, classify, True))
    gains, own_gains = [], []
    for plane in planes:
        exam = MaskedExam(Weighing(plane[None]), scenes.train, scenes.test, plan=CPU)
        rows = dict(saliency(exam, methods=("gradient",)))
        gains.append(rows["on_object_gain_gradient"])
        own_gains.append((rows["on_object_own_gain_gradient"], rows["on_object_own_gain_gradient_half"]))
        assert any(name.startswith("on_object_own_gain_gradient_half/") for name in rows)
        assert 0 < rows["object_area"] < 1 and rows["object_images"] == 100
    assert gains[0] > 0.1 and abs(gains[1]) < 1e-4
    assert all(abs(gain) < max(half, 1e-6) + 1e-6 for gain, half in own_gains)  # its map is the same for all


def test_a_classs_gain_is_the_mean_of_its_own_images_that_have_one():
    gain, labels = torch.tensor([0.1, 0.3, torch.nan, 0.5, 0.9]), torch.tensor([0, 0, 0, 1, 2])
    found = dict(_by_class("gain", gain, labels, ["a", "b", "c"]))
    assert set(found) == {"gain/a", "gain_half/a"}  # one number alone has no spread
    assert found["gain/a"] == pytest.approx(0.2)
