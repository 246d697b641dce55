"""Saliency, retrieval, colour, layers and geometry, each against what is known of a network made by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lilliput import catalog
from lilliput.data.masks import masks_of
from lilliput.errors import BadData, BadSetting, wanted
from lilliput.probes._exam import Exam
from lilliput.probes._features import extract, extract_stages
from lilliput.probes.colour import cohens_d, colour, pulls
from lilliput.probes.geometry import geometry
from lilliput.probes.linear import Classifier
from lilliput.probes.retrieval import ranked
from lilliput.probes.saliency import on_object, saliency, saliency_maps
from lilliput.system.plan import Plan

CPU = Plan("cpu", "fp32", channels_last=False)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


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


def test_a_network_that_sees_the_object_alone_is_told_from_one_that_sees_all(scenes):
    """The score may only hang on what a network sees: the middle, where things are, or everything alike."""
    masks = torch.as_tensor(np.array(scenes.test.masks)).float().mean(0)
    planes = torch.stack([(masks > masks.mean()).float().expand(3, -1, -1), torch.ones(3, 32, 32)])
    gains = []
    for plane in planes:
        exam = Exam(Weighing(plane[None]), scenes.train, scenes.test, plan=CPU)
        exam.kept["classifier"] = Classifier(torch.zeros(1), torch.ones(1), torch.ones(1, 10), torch.zeros(10))
        rows = dict(saliency(exam, methods=("gradient",)))
        gains.append(rows["on_object_gain_gradient"])
        assert 0 < rows["object_area"] < 1 and rows["object_images"] == 100
    assert gains[0] > 0.1 and abs(gains[1]) < 1e-4


def test_precision_and_average_precision_are_those_of_brute_force():
    queries, bank = torch.randn(12, 3, generator=rng(1)), torch.randn(40, 3, generator=rng(2))
    truth, labels = torch.arange(12) % 3, torch.arange(40) % 3
    precision, average = ranked(queries, truth, bank, labels, (1, 5))
    for row, query in enumerate(queries):
        order = ((bank - query) ** 2).sum(1).argsort()
        right = [int(labels[place] == truth[row]) for place in order]
        assert precision[5][row].item() == pytest.approx(sum(right[:5]) / 5)
        assert precision[1][row].item() == right[0]
        so_far = [sum(right[: n + 1]) / (n + 1) for n, one in enumerate(right) if one]
        assert average[row].item() == pytest.approx(sum(so_far) / len(so_far), abs=1e-5)


def test_cohens_d_by_hand_and_a_pull_only_where_mistakes_follow_colour():
    d, variance = cohens_d(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 3.0]))
    assert d == pytest.approx(1 / math.sqrt(2)) and variance == pytest.approx(1 + d * d / 8)
    count = 400
    truth = torch.arange(count) % 2
    colours = torch.randn(count, 3, generator=rng()) + truth[:, None] * torch.tensor([2.0, 0, 0])
    by_colour = (colours[:, 0] > 1).long()
    blind = torch.where(torch.rand(count, generator=rng(3)) < 0.3, 1 - truth, truth)
    following, independent = (dict(pulls(colours, truth, guess, ["a", "b"])) for guess in (by_colour, blind))
    assert following["colour_pull"] - following["colour_pull_half"] > 1
    assert abs(independent["colour_pull"]) < independent["colour_pull_half"] * 1.5
    assert set(following) >= {"colour_pull/a/b", "colour_pull_half/b/a"}


class Palette(nn.Module):
    """Sees nothing but the mean colours of the image's top, middle and bottom."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, (3, 1)).flatten(1)


def test_a_network_trained_where_colour_tells_the_class_shows_it_and_one_trained_where_it_does_not_shows_less():
    prepare = catalog.dataset("scenes")
    lost = {}
    for tie in (1.0, 0.0):
        data = prepare(image_size=32, limit=2, pool_count=2, train_count=600, test_count=300, colour_tie=tie)
        rows = dict(colour(Exam(Palette(), data.train, data.test, plan=CPU)))
        lost[tie] = rows["loss_hue"], rows["loss_hue_half"]
        assert rows["loss_grey"] > 0 or tie == 0
    assert lost[1.0][0] - lost[1.0][1] > 0.2
    assert lost[1.0][0] - lost[0.0][0] > lost[1.0][1] + lost[0.0][1]


def test_a_change_of_colour_costs_a_network_that_sees_only_lightness_nothing(scenes):
    class Grey(nn.Module):
        def forward(self, images):
            luma = (images * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1)
            return nn.functional.adaptive_avg_pool2d(luma[:, None], 6).flatten(1)

    rows = dict(colour(Exam(Grey(), scenes.train, scenes.test, plan=CPU)))
    assert abs(rows["loss_grey"]) < 0.011 and rows["neighbours_kept_grey"] > 0.99


def test_geometry_tells_dead_units_and_features_that_do_not_move(scenes):
    class Half(nn.Module):
        def forward(self, images):
            live = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
            return torch.cat([live, torch.full_like(live, 0.3)], 1)

    class Constant(nn.Module):
        def forward(self, images):
            return torch.ones(len(images), 4)

    half = dict(geometry(Exam(Half(), scenes.train, scenes.test, plan=CPU)))
    assert half["dead_units"] == pytest.approx(0.5) and 1 <= half["effective_rank"] <= 12
    constant = dict(geometry(Exam(Constant(), scenes.train, scenes.test, plan=CPU)))
    assert constant["alignment"] == pytest.approx(0, abs=1e-6) and constant["uniformity"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("technique", ["simclr", "split_brain"])
def test_the_last_of_the_stages_are_the_features(technique, scenes):
    build = catalog.backbone_builder("shufflenet_v2", width=0.5)
    encoder = catalog.technique(technique).build_encoder(build).eval()
    stages = extract_stages(encoder, scenes.test, plan=CPU)
    torch.testing.assert_close(stages[-1], extract(encoder, scenes.test, plan=CPU), rtol=1e-4, atol=1e-5)
    assert len(stages) >= 4


def test_some_rows_of_a_store_are_read_as_the_whole_is(scenes):
    rows = np.array([5, 2, 40])
    some = scenes.test.take(rows)
    assert len(some) == 3 and some.image_size == 32 and some.classes == scenes.test.classes
    assert torch.equal(some.batch(slice(0, 2)), scenes.test.batch(rows[:2]))
    assert some.labels.tolist() == scenes.test.labels[rows].tolist()
    assert np.array_equal(masks_of(some), scenes.test.masks[rows]) and np.array_equal(
        some.images, scenes.test.images[rows]
    )


def test_masks_beside_a_folder_go_to_the_images_of_their_numbers(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for number in range(20):
            folder = tmp_path / "data" / split / ("a" if number % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.full((16, 16, 3), number * 10, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:05}.png")
    grid = np.zeros((1, 4, 4), dtype=np.uint8)
    grid[0, 0, 3] = 1
    packed = np.packbits(grid.reshape(1, -1), axis=1)
    index = {"train_index": np.array([7]), "test_index": np.array([6])}
    np.savez(tmp_path / "data" / "masks.npz", **index, train_mask=packed, test_mask=packed)
    data = catalog.dataset("folder")(path=tmp_path / "data", image_size=16)
    masks = masks_of(data.test)
    (row,) = np.flatnonzero(masks.reshape(20, -1).any(1))
    assert data.test.images[row].max() == 60  # number 6
    assert masks[row, :4, 12:].all() and masks[row].sum() == 16
    np.savez(tmp_path / "data" / "masks.npz", other=packed)
    other = catalog.dataset("folder")(path=tmp_path / "data", image_size=12)
    with pytest.raises(BadData, match="holds no masks"):
        masks_of(other.test)


def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(BadSetting, match=r'no_such is not installed|pip install "lilliput\[report\]"'):
        wanted("no_such.part", extra="report")
