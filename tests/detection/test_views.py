"""What a detector is trained on: boxes stay on what they are of."""

import torch
from torchvision import tv_tensors

from lilliput.detection.boxes import BoxedImages
from lilliput.detection.views import batches, boxes_of, geometry
from lilliput.system.seeds import seeded
from tests.conftest import CPU


def white_square(count, *, side=64, aside=False):
    """Black images, each with a white square and the box of it."""
    pixels = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    pixels[:, :, 10:40, 20:50] = 255
    box, label, flag = torch.tensor([[20.0, 10.0, 50.0, 40.0]]), torch.tensor([1]), torch.tensor([aside])
    names = [str(number) for number in range(count)]
    return BoxedImages(names, pixels, [box] * count, [label] * count, [flag] * count, [(side, side)] * count, ["a"])


def test_boxes_follow_their_objects_through_crops_reductions_and_mirrors():
    images, change = white_square(24), geometry(64)
    seen = set()
    for row in range(len(images)):
        with seeded(row):
            view, target = change(tv_tensors.Image(images.pixels[row]), boxes_of(images, row))
        white = (view.float().mean(0) > 200).nonzero()  # the square; what surrounds a reduced image is grey
        if len(target["boxes"]):  # else the crop's middle was elsewhere
            top, left = white.min(0).values.tolist()
            bottom, right = (white.max(0).values + 1).tolist()
            assert torch.allclose(target["boxes"][0], torch.tensor([left, top, right, bottom]).float(), atol=2.5)
            seen.add((left, top, right, bottom))
    assert len(seen) > 8  # every image has its own draw


def test_batches_are_the_same_for_a_seed_and_differ_by_epoch():
    first, again = (batches(white_square(4), 4, seed=3, plan=CPU) for _ in range(2))
    one, two = next(first)[0], next(first)[0]
    assert torch.equal(one, next(again)[0]) and not torch.equal(one, two)
    torch.rand(7)  # whoever else draws
    assert torch.equal(two, next(again)[0])


def test_what_is_set_aside_is_not_learned_from():
    _, targets = next(batches(white_square(3, aside=True), 3, seed=0, plan=CPU))
    assert [len(target["boxes"]) for target in targets] == [0, 0, 0]
