"""Writing a store: whole or nothing, found again, room taken before the work."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lilliput.data import store
from lilliput.data.store import open_store
from lilliput.data.writing import prepared, write_store
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home
from tests.data.conftest import noise, written


def test_what_is_written_is_read_back(tmp_path):
    pixels = noise(5)
    new = written(tmp_path / "s", pixels, labels=[0, 1, 1, 0, 1], classes=["a", "b"], masks=True)
    for opened in (new, open_store(tmp_path / "s")):
        assert np.array_equal(opened.images, pixels) and opened.images.dtype == np.uint8
        assert opened.labels.tolist() == [0, 1, 1, 0, 1] and opened.labels.dtype == np.int64
        assert np.array_equal(opened.masks, pixels[:, 0] > 127)
        assert (opened.classes, len(opened), opened.image_size) == (["a", "b"], 5, 8)
    assert isinstance(new.images, np.memmap) and not new.images.flags.writeable


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
