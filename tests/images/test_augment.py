"""Batched transforms against torchvision's per-image ones: the same function, the same distribution, own draws."""

import math
from functools import partial

import pytest
import torch
import torchvision.transforms.v2 as reference
import torchvision.transforms.v2.functional as tv

from lilliput.images import augment
from tests.conftest import rng


def pictures(count, size=32, seed=1):
    """Smooth random images: noise would hide what a crop or a blur does."""
    return tv.gaussian_blur(torch.rand(count, 3, size, size, generator=rng(seed)), 5, 1.5)


TRANSFORMS = {
    "resized_crop": augment.resized_crop,
    "padded_crop": augment.padded_crop,
    "colour_jitter": partial(augment.colour_jitter_, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=1.0),
    "grey": partial(augment.grey_, p=0.5),
    "solarise": partial(augment.solarise_, p=0.5),
    "blur": partial(augment.blur_, p=1.0),
    "drop_colours": partial(augment.drop_colours_, p=0.5),
}
CONTINUOUS = ("resized_crop", "colour_jitter", "blur")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_same_generator_gives_the_same_images(name):
    images = pictures(8)
    one, two, three = (TRANSFORMS[name](images.clone(), rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, three)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_given_images_are_left_as_they_were_or_changed_in_place(name):
    images = pictures(8)
    before = images.clone()
    views = TRANSFORMS[name](images, rng())
    assert torch.equal(images, before) if name.endswith("crop") else views is images


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if not name.endswith("crop")])
def test_images_changed_all_together_are_those_changed_one_by_one(name, monkeypatch):
    """As on an accelerator, where those that stay are worked out too."""
    images = pictures(32)
    some = {**TRANSFORMS, "colour_jitter": partial(TRANSFORMS["colour_jitter"], p=0.8)}
    picked = some[name](images.clone(), rng())
    monkeypatch.setattr(augment, "takes_apart", lambda images: False)
    together = some[name](copy := images.clone(), rng())
    assert together is copy and not torch.equal(together, images)
    torch.testing.assert_close(together, picked, rtol=0, atol=1e-6 if name == "blur" else 0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_image_of_a_batch_gets_its_own_draw(name):
    views = TRANSFORMS[name](pictures(1).repeat(16, 1, 1, 1), rng())
    different = len({view.numpy().tobytes() for view in views})
    assert different == 16 if name in CONTINUOUS else different >= 2


@pytest.mark.parametrize("name", TRANSFORMS)
def test_values_stay_between_0_and_1(name):
    views = TRANSFORMS[name](torch.rand(64, 3, 24, 24, generator=rng()), rng())
    assert views.min() >= -1e-6 and views.max() <= 1 + 1e-6


@pytest.mark.parametrize(("height", "size"), [(40, 24), (24, 40), (33, 32), (32, 32)])
def test_a_crop_is_torchvisions_antialiased_crop_of_the_same_box(height, size):
    image = torch.rand(1, 3, height, height, generator=rng())
    for seed in range(6):
        box = augment.crop_boxes(1, height, height, rng(seed), area=(0.2, 1.0), ratio=(3 / 4, 4 / 3))
        top, left, h, w = (int(value) for value in box)
        ours = augment.resized_crop(image, rng(seed), size=size, area=(0.2, 1.0), flip=0.0)
        theirs = tv.resized_crop(image, top, left, h, w, [size, size], antialias=True)
        assert (ours - theirs).abs().max() < 1e-5


def test_a_flip_is_a_mirror_image():
    image = pictures(1)
    plain = augment.resized_crop(image, rng(5), flip=0.0)
    assert torch.allclose(augment.resized_crop(image, rng(5), flip=1.0), plain.flip(3), atol=1e-6)


def test_half_of_the_images_are_mirrored():
    ramp = torch.linspace(0, 1, 32).expand(2000, 3, 32, 32)
    views = augment.resized_crop(ramp, rng(), flip=0.5)
    assert abs((views[:, 0, 0, 0] > views[:, 0, 0, -1]).float().mean().item() - 0.5) < 0.04


def test_areas_and_aspects_of_crops_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    draw = reference.RandomResizedCrop(32, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    image = torch.zeros(3, 96, 96)
    theirs = [draw.make_params([image]) for _ in range(4000)]
    heights = torch.tensor([float(p["height"]) for p in theirs])
    widths = torch.tensor([float(p["width"]) for p in theirs])
    tops = torch.tensor([float(p["top"]) for p in theirs])
    top, _, h, w = augment.crop_boxes(4000, 96, 96, rng(), area=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    for ours, reference_values in ((h * w, heights * widths), (w / h, widths / heights), (top, tops)):
        assert largest_gap(ours, reference_values) < 0.05


def largest_gap(one, two):
    """The Kolmogorov-Smirnov distance of two samples; for 4,000 each, equal ones exceed 0.043 once in a thousand."""
    points = torch.cat([one, two]).sort().values
    share = [(torch.searchsorted(s.sort().values, points, right=True) / len(s)) for s in (one, two)]
    return (share[0] - share[1]).abs().max().item()


def test_a_padded_crop_only_moves_pixels():
    image = torch.arange(3 * 16 * 16, dtype=torch.float32).reshape(1, 3, 16, 16)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
    places = {
        padded[0, :, y : y + 16, x : x + 16].numpy().tobytes() for y in range(5) for x in range(5)
    }  # every shift by -2..2
    views = augment.padded_crop(image.expand(300, -1, -1, -1), rng(), padding=1 / 8, flip=0.0)
    assert {view.numpy().tobytes() for view in views} == places


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.07, 0.3, 0.5])
def test_a_shift_of_hue_is_torchvisions(turn):
    images = torch.rand(4, 3, 16, 16, generator=rng())
    images[0, :, 0, 0] = 0.4  # grey has no hue
    assert (augment.shift_hue(images, torch.full((4,), turn)) - tv.adjust_hue(images, turn)).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_brightness_contrast_and_saturation_are_torchvisions(name):
    images = torch.rand(3, 3, 16, 16, generator=rng())
    operation = torch.full((3,), getattr(augment, name.upper()))
    for factor in (0.3, 1.0, 1.7):
        changed = augment.fade(images, operation, torch.full((3,), factor))
        assert (changed - getattr(tv, f"adjust_{name}")(images, factor)).abs().max() < 1e-4


def test_jitter_is_torchvisions_operations_in_the_order_and_by_the_factors_drawn():
    images = pictures(40)
    draws = rng(7)
    picked = augment.chosen(40, 0.8, draws)
    factors = [augment.uniform(40, 0.6, 1.4, draws) for _ in range(3)] + [augment.uniform(40, -0.1, 0.1, draws)]
    order = torch.rand((40, 4), generator=draws).argsort(1)
    views = augment.colour_jitter_(images.clone(), rng(7), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    names = ("brightness", "contrast", "saturation", "hue")
    for number, image in enumerate(images):
        for operation in order[number].tolist() if picked[number] else ():
            image = getattr(tv, f"adjust_{names[operation]}")(image, factors[operation][number].item())
        assert (views[number] - image).abs().max() < 2e-3  # torchvision's luma has one digit less


def test_jitter_with_one_strength_at_a_time_is_distributed_as_torchvisions():
    image = pictures(1)
    for strengths in ((0.8, 0, 0, 0), (0, 0.8, 0, 0), (0, 0, 0.8, 0), (0, 0, 0, 0.2)):
        names = ("brightness", "contrast", "saturation", "hue")
        settings = dict(zip(names, strengths, strict=True))
        torch.manual_seed(0)
        jitter = reference.ColorJitter(**settings)
        theirs = torch.stack([jitter(image[0]) for _ in range(1500)])
        ours = augment.colour_jitter_(image.repeat(1500, 1, 1, 1), rng(), **settings, p=1.0)
        spot = (slice(None), slice(None), 7, 11)
        for channel in range(3):
            # a channel that stays lowest is one value, but for the last bits of its sum
            one, two = (views[spot][:, channel].round(decimals=5) for views in (ours, theirs))
            assert largest_gap(one, two) < 0.085


def test_all_24_orders_of_the_jitter_occur_alike():
    """Brightness, then contrast, is not contrast, then brightness: with factors fixed, an order is a picture."""
    image = pictures(1) * 0.8 + 0.2
    count = 2400
    draws = rng()
    batch = image.repeat(count, 1, 1, 1)
    # the order is the last draw; equal factors for all images come from a strength of nearly zero spread around 1.5
    orders = torch.rand((count, 4), generator=draws).argsort(1)
    numbers = (orders * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = numbers.unique(return_counts=True)[1]
    assert len(counts) == 24 and counts.min() > 60 and counts.max() < 145
    strong = augment.colour_jitter_(batch, rng(), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=1.0)
    torch.manual_seed(0)
    jitter = reference.ColorJitter(0.8, 0.8, 0.8, 0.2)
    theirs = torch.stack([jitter(image[0]) for _ in range(count)])
    for channel in range(3):
        assert largest_gap(strong[:, channel, 5, 5], theirs[:, channel, 5, 5]) < 0.07


def test_jitter_leaves_one_image_in_five():
    views = augment.colour_jitter_(
        pictures(1).repeat(1000, 1, 1, 1), rng(), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8
    )
    same = (views == pictures(1)).flatten(1).all(1).float().mean().item()
    assert abs(same - 0.2) < 0.04


def test_grey_images_are_torchvisions_grey():
    images = torch.rand(8, 3, 8, 8, generator=rng())
    assert (augment.grey_(images.clone(), rng(), p=1.0) - tv.rgb_to_grayscale(images, 3)).abs().max() < 1e-3
    assert torch.equal(augment.grey_(images.clone(), rng(), p=0.0), images)


def test_solarised_images_are_torchvisions():
    images = torch.rand(8, 3, 8, 8, generator=rng())
    assert torch.allclose(augment.solarise_(images.clone(), rng(), p=1.0), tv.solarize(images, 0.5))


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.3, 2.0])
def test_a_blur_is_torchvisions_of_the_same_kernel(sigma):
    images = torch.rand(2, 3, 48, 48, generator=rng())
    radius = 2
    ours = augment.gaussian(images, torch.full((2,), sigma), radius=radius)
    theirs = tv.gaussian_blur(images, 2 * radius + 1, sigma)
    assert (ours - theirs).abs().max() < 1e-5


def test_sigmas_of_the_blur_are_uniform_and_the_kernel_a_tenth_of_the_image():
    impulse = torch.zeros(2000, 3, 96, 96)
    impulse[:, :, 48, 48] = 1.0
    views = augment.blur_(impulse, rng(), p=1.0, sigma=(0.5, 2.0))
    spread = views[:, 0] > 0
    assert spread.any(2).sum(1).max() == 9  # 9.6 made odd
    peak = views[:, 0, 48, 48]
    taps = torch.arange(-4, 5)
    expected = [
        1 / torch.exp(-0.5 * (taps / s) ** 2).sum() ** 2 for s in torch.empty(2000).uniform_(0.5, 2.0, generator=rng(9))
    ]
    assert largest_gap(peak, torch.stack(expected)) < 0.06


def test_a_blurred_image_keeps_its_mean():
    assert math.isclose(augment.blur_(torch.full((2, 3, 20, 20), 0.3), rng(), p=1.0).mean().item(), 0.3, rel_tol=1e-5)
