"""Shards from elsewhere on this disk: what is in hand stays, of this process and of others."""

import gc

import pytest

from lilliput.data import shelf
from lilliput.data.remote import Remote
from lilliput.data.shards import Tar
from lilliput.data.shelf import Shelf
from lilliput.system.locks import has_locks


def tar(number):
    url = f"http://there/{number}"
    return Tar(url, Remote(url, 4, "1"), (4, "1"))


def read(own, number):
    with own.opened(tar(number)) as file:
        assert file.read() == b"tar."


@pytest.fixture
def brought(monkeypatch):
    """Numbers of what was brought."""
    numbers = []

    def bring(remote, path):
        numbers.append(int(remote.url.rpartition("/")[2]))
        path.write_bytes(b"tar.")

    monkeypatch.setattr(shelf, "bring", bring)
    return numbers


def lying():
    return {number for number in range(20) if (tar(number).folder / shelf.NAME).exists()}


@pytest.mark.skipif(not has_locks(), reason="this system has no locks")
def test_what_another_has_in_hand_stays(brought):
    """Each process emptied the folder of what the others streamed: every image cost a shard. Locks keep shelves of one
    process apart as those of two."""
    shelves = [(Shelf(0), range(4)), (Shelf(0), range(4, 8))]
    for own, numbers in shelves:
        own.take_in_hand(map(tar, numbers))
    for turn in range(20):
        for own, numbers in shelves:
            read(own, numbers[turn % 4])
    assert sorted(brought) == list(range(8))


def test_what_nobody_has_in_hand_any_more_goes(brought):
    one, other = Shelf(0), Shelf(0)
    one.take_in_hand([tar(0), tar(1)])
    read(one, 0)
    read(one, 1)
    one.take_in_hand([tar(1), tar(2)])
    assert lying() == {1}
    del one
    gc.collect()
    read(other, 3)
    assert lying() == {3}


def test_a_tar_that_is_read_stays_while_others_are_brought(brought):
    """As shards are indexed by several threads, a file went between its coming and its opening."""
    own = Shelf(0)
    with own.opened(tar(0)):
        read(own, 1)
        read(own, 2)
        read(own, 0)
        assert lying() == {0, 2}
    read(own, 3)
    assert brought == [0, 1, 2, 3] and lying() == {3}


def test_beside_what_is_in_hand_the_latest_stay(brought):
    own = Shelf(8)
    own.take_in_hand([tar(0)])
    for number in (0, 1, 2, 1, 3):
        read(own, number)
    assert lying() == {0, 3}
