"""What a store promises: whole or absent, found again, the same digest for the same content."""

import errno
import hashlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lilliput.data import manifest, store
from lilliput.data.manifest import fingerprint
from lilliput.data.store import open_store, spaced
from lilliput.data.writing import prepared, write_store
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.system.files import home
from lilliput.system.records import read_json, write_json


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "home"))


def noise(count, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def written(folder, pixels, *, give_up=None, name="x", split="pool", source="noise", **options):
    def fill(images, masks):
        images[:] = pixels
        if masks is not None:
            masks[:] = pixels[:, 0] > 127
        return give_up

    size, count = pixels.shape[-1], len(pixels)
    return write_store(
        folder, name=name, split=split, source=source, image_size=size, count=count, fill=fill, **options
    )


def test_what_is_written_is_read_back(tmp_path):
    pixels = noise(5)
    new = written(tmp_path / "s", pixels, labels=[0, 1, 1, 0, 1], classes=["a", "b"], masks=True)
    for opened in (new, open_store(tmp_path / "s")):
        assert np.array_equal(opened.images, pixels) and opened.images.dtype == np.uint8
        assert opened.labels.tolist() == [0, 1, 1, 0, 1] and opened.labels.dtype == np.int64
        assert np.array_equal(opened.masks, pixels[:, 0] > 127)
        assert (opened.classes, len(opened), opened.image_size) == (["a", "b"], 5, 8)
    assert isinstance(new.images, np.memmap) and not new.images.flags.writeable


def test_the_manifest_says_what_is_in_it(tmp_path):
    manifest = written(tmp_path / "s", noise(3), split="train", source="here").manifest
    expected = {"name": "x", "split": "train", "source": "here", "image_size": 8, "count": 3, "classes": None}
    assert expected.items() <= manifest.items()
    assert manifest["skipped"] == []


def test_the_digest_depends_on_content_alone(tmp_path):
    one = written(tmp_path / "one", noise(4), labels=[0, 1, 0, 1])
    same = written(tmp_path / "two", noise(4), labels=[0, 1, 0, 1], name="y")
    other_pixels = written(tmp_path / "three", noise(4, seed=1), labels=[0, 1, 0, 1])
    other_labels = written(tmp_path / "four", noise(4), labels=[0, 1, 1, 1])
    no_labels = written(tmp_path / "five", noise(4))
    assert one.digest == same.digest
    assert len({one.digest, other_pixels.digest, other_labels.digest, no_labels.digest}) == 4


def test_the_digest_does_not_depend_on_how_it_is_read(tmp_path, monkeypatch):
    whole = written(tmp_path / "whole", noise(5))
    monkeypatch.setattr(manifest, "CHUNK_BYTES", 400)  # two images
    assert written(tmp_path / "chunks", noise(5)).digest == whole.digest
    by_hand = hashlib.sha256(b"images uint8 (5, 3, 8, 8)" + noise(5).tobytes())
    assert whole.digest == by_hand.hexdigest()


some = np.array([True, False, False, True, False, False])
ways_to_ask = {
    "list": ([4, 0, 2, 2], [4, 0, 2, 2]),
    "array": (np.array([4, 0, 2, 2]), [4, 0, 2, 2]),
    "tensor": (torch.tensor([4, 0, 2, 2]), [4, 0, 2, 2]),
    "slice": (slice(1, 5, 2), [1, 3]),
    "from the end": ([-1], [5]),
    "mask": (some, [0, 3]),
    "tensor mask": (torch.from_numpy(some), [0, 3]),
}


@pytest.mark.parametrize(("indices", "rows"), ways_to_ask.values(), ids=ways_to_ask.keys())
def test_a_batch_is_a_copy_of_the_images_asked_for(tmp_path, indices, rows):
    pixels = noise(6)
    opened = written(tmp_path / "s", pixels)
    batch = opened.batch(indices)
    assert batch.dtype == torch.uint8 and np.array_equal(batch.numpy(), pixels[rows])
    batch.zero_()
    assert np.array_equal(opened.images, pixels)


def test_an_empty_batch_is_empty(tmp_path):
    assert written(tmp_path / "s", noise(6)).batch([]).shape == (0, 3, 8, 8)


def test_a_batch_beyond_the_end_is_an_error(tmp_path):
    with pytest.raises(IndexError):
        written(tmp_path / "s", noise(2)).batch([2])


def test_rows_given_up_are_left_out_with_their_labels_and_masks(tmp_path, capsys):
    pixels = noise(5)
    give_up = {1: {"file": "b.png", "reason": "torn"}, 4: {"file": "e.png", "reason": "empty"}}
    left = written(tmp_path / "s", pixels, labels=[0, 1, 2, 3, 4], masks=True, give_up=give_up)
    assert np.array_equal(left.images, pixels[[0, 2, 3]])
    assert np.array_equal(left.masks, pixels[[0, 2, 3], 0] > 127)
    assert left.labels.tolist() == [0, 2, 3]
    assert left.manifest["skipped"] == [give_up[1], give_up[4]] and left.manifest["count"] == 3
    said = capsys.readouterr().err
    assert "skipped 2 of 5" in said and "b.png" in said and said.count("\n") == 1
    assert left.digest == written(tmp_path / "t", pixels[[0, 2, 3]], labels=[0, 2, 3], masks=True).digest


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(BadData, match=r"none of the 2 images.*a\.png.*torn"):
        give_up = {row: {"file": "a.png", "reason": "torn"} for row in range(2)}
        written(tmp_path / "stores" / "s", noise(2), give_up=give_up)
    assert list((tmp_path / "stores").iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt(), OSError("no such disk")])
def test_an_interrupted_write_leaves_nothing(tmp_path, error):
    def fill(images, masks):
        images[0] = 1
        raise error

    with pytest.raises(BadData if isinstance(error, OSError) else type(error)):
        write_store(tmp_path / "stores" / "s", name="x", split="s", source="", image_size=8, count=2, fill=fill)
    assert list((tmp_path / "stores").iterdir()) == []


KILLED = """
import os, sys, signal
from lilliput.data.writing import write_store
def fill(images, masks):
    images[:] = 1
    os.kill(os.getpid(), signal.SIGKILL)
write_store(sys.argv[1], name="x", split="s", source="", image_size=8, count=2, fill=fill)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is of POSIX")
def test_what_a_killed_process_leaves_is_never_taken_for_a_store_and_is_swept_after_a_day(tmp_path):
    folder = tmp_path / "stores" / "s"
    subprocess.run([sys.executable, "-c", KILLED, folder], cwd=Path(store.__file__).parents[2], check=False)
    (left,) = folder.parent.iterdir()
    with pytest.raises(BadData, match="no store"):
        open_store(folder)
    written(folder, noise(2))
    assert left.exists()  # its writer might be alive
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    written(folder, noise(2))
    assert [path.name for path in folder.parent.iterdir()] == ["s"]


def test_a_torn_store_is_refused_by_name(tmp_path):
    folder = written(tmp_path / "s", noise(4), labels=[0, 0, 0, 0]).folder
    images = folder / "images.npy"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    with pytest.raises(BadData, match="torn"):
        open_store(folder)
    np.save(images, noise(3))
    with pytest.raises(BadData, match="torn"):
        open_store(folder)
    images.unlink()
    with pytest.raises(BadData, match="torn"):
        open_store(folder)
    images.write_bytes(whole)
    open_store(folder)
    (folder / "manifest.json").write_text('{"format": 1, ')
    with pytest.raises(BadData, match="torn"):
        open_store(folder)


def test_another_format_is_refused(tmp_path):
    folder = written(tmp_path / "s", noise(1)).folder
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "format": 0})
    with pytest.raises(BadData, match="format 0"):
        open_store(folder)


def test_a_pickled_store_carries_no_pixels(tmp_path):
    opened = written(tmp_path / "s", noise(50, 32))
    assert len(pickle.dumps(opened)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).images, opened.images)


def test_prepared_writes_once_and_mends_what_is_torn(capsys):
    calls = []

    def fill(images, masks):
        calls.append(1)
        images[:] = 7

    def again():
        contents = {"source": "s", "image_size": 8, "count": 2, "fill": fill}
        return prepared(name="my data/é", split="pool", key=["a", 1], **contents)

    first, second = again(), again()
    assert first.folder == second.folder and len(calls) == 1
    assert first.folder.parent == home() / "stores"
    (first.folder / "images.npy").write_bytes(b"")
    assert again().batch([0]).unique().tolist() == [7] and len(calls) == 2
    assert "set aside" in capsys.readouterr().err
    assert len(list(first.folder.parent.iterdir())) == 2  # the damaged one is kept


def test_two_who_write_at_once_both_get_a_whole_store(tmp_path):
    folder = tmp_path / "s"

    def fill(images, masks):
        written(folder, noise(2))  # somebody is quicker
        images[:] = noise(2)

    late = write_store(folder, name="x", split="pool", source="noise", image_size=8, count=2, fill=fill)
    assert np.array_equal(late.images, noise(2))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_fingerprint_tells_keys_apart():
    assert fingerprint(["a", 1]) == fingerprint(["a", 1])
    assert len({fingerprint(key) for key in (["a", 1], ["a", "1"], ["a1"], ["a", 1, None])}) == 4


def test_spaced_rows_reach_over_the_whole_list():
    assert spaced(10, None).tolist() == spaced(10, 10).tolist() == spaced(10, 99).tolist() == list(range(10))
    assert spaced(10, 3).tolist() == [0, 3, 6]
    gaps = np.diff(spaced(100_000, 777))
    assert len(gaps) == 776 and set(gaps) == {128, 129}
    with pytest.raises(BadSetting, match="limit 0"):
        spaced(10, 0)


def test_a_wrong_image_size_is_refused():
    for size in (-1, 0, 7, 4096):
        with pytest.raises(BadSetting, match=str(size)):
            store.chosen_size(size, 96)


def test_home_follows_the_environment(monkeypatch, tmp_path):
    assert home() == tmp_path / "home"
    monkeypatch.delenv("LILLIPUT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "lilliput"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "lilliput"


def test_a_home_that_cannot_be_made_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(LilliputError, match=r"file.*\$LILLIPUT_HOME"):
        written(tmp_path / "file" / "stores" / "s", noise(1))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_closed_to_writing_names_the_way_out(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(LilliputError, match=r"closed.*\$LILLIPUT_HOME"):
        written(tmp_path / "closed" / "s", noise(1))


def test_a_full_disk_is_told_before_the_work(tmp_path):
    def fill(images, masks):
        raise AssertionError("too late")

    with pytest.raises(LilliputError, match=r"GiB wanted.*\$LILLIPUT_HOME"):
        write_store(tmp_path / "s" / "s", name="x", split="s", source="", image_size=2048, count=10**8, fill=fill)
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room")
def test_a_quota_is_told_before_the_work(tmp_path, monkeypatch):
    """A memory map on a full disk ends the process with SIGBUS, so room must be reserved first."""

    def full(*_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LilliputError, match=r"(?i)quota.*\$LILLIPUT_HOME"):
        written(tmp_path / "s" / "s", noise(1))
    assert list((tmp_path / "s").iterdir()) == []


def test_listing_datasets_does_not_import_torch():
    names = [path.stem for path in (Path(store.__file__).parents[1] / "datasets").glob("*.py")]
    ours = [name for name in names if name in ("folder", "stl10", "cifar10", "cifar100")]
    code = f"import sys\nfor n in {ours}: __import__('lilliput.datasets.' + n)\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(store.__file__).parents[2], check=True)
