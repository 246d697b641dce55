"""Batches on their way to a device: from its own memory, or read ahead by a thread."""

import gc
import threading
from contextlib import closing

import pytest
import torch

from lilliput.data import feed
from tests.conftest import rng

CPU = torch.device("cpu")


def test_what_is_made_ahead_comes_in_order_and_not_too_far_ahead():
    made = []
    with closing(feed.ahead(lambda one: made.append(one) or 10 * one, range(9), count=2)) as comes:
        for number, one in enumerate(comes):
            assert one == 10 * number
            assert len(made) <= number + 3  # that one, and two that lie ready or are made
    assert made == list(range(9))


def test_an_error_comes_in_its_turn():
    comes = feed.ahead(lambda one: 1 / (3 - one), range(9))
    assert [next(comes) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(comes)


def test_its_thread_ends_when_nobody_wants_more():
    before = threading.active_count()
    comes = feed.ahead(str, range(1000))
    next(comes)
    assert threading.active_count() == before + 1
    comes.close()
    assert threading.active_count() == before


def test_images_lie_on_a_device_as_bytes_as_long_as_they_are_in_use(scenes, monkeypatch):
    some = scenes.pool.take(range(8))
    monkeypatch.setattr(feed, "available_bytes", lambda device: 8 * 8 * 3 * 32**2)
    pixels = feed.lying(some, CPU)
    assert pixels.dtype == torch.uint8 and torch.equal(pixels, some.batch(slice(None)))
    assert feed.lying(some, CPU) is pixels
    assert feed.lying(scenes.pool.take(range(9)), CPU) is None
    before = len(feed._lying)
    del some
    gc.collect()
    assert len(feed._lying) == before - 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fits", [True, False])
def test_every_way_to_a_device_brings_the_same_batches(fits, scenes, monkeypatch):
    pool = scenes.pool.take(range(48))
    monkeypatch.setattr(feed, "SHARE", 1 / 8 if fits else 0)
    cuda, order = torch.device("cuda"), torch.randperm(48, generator=rng())
    brought = list(feed.fed(pool, order.to(cuda), 16, 1, cuda))
    assert (feed.lying(pool, cuda) is not None) == fits
    for batch, expected in zip(brought, feed.fed(pool, order, 16, 1, CPU), strict=True):
        torch.testing.assert_close(batch.cpu(), expected)
