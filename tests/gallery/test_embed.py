"""Features of a folder: what is in the files, what a killed command leaves, what is computed anew."""

import csv
import hashlib
import os

import numpy as np
import pandas as pd
import pytest
import torch

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.gallery import index as index_module
from lilliput.gallery.index import gather
from lilliput.images.decode import decode
from lilliput.training.encoders import load_encoder
from tests.conftest import flip_bit, interrupt_at
from tests.gallery.conftest import drawings

NAMES = [*(f"{number:03d}.png" for number in range(8)), *(f"more/deeper/{number:03d}.png" for number in range(4))]


@pytest.fixture
def looked_at(monkeypatch):
    """The names of the files that are decoded from here on."""
    names, usual = [], index_module.read_image

    def noted(path, size):
        names.append(path.name)
        return usual(path, size)

    monkeypatch.setattr(index_module, "read_image", noted)
    return names


def test_features_are_those_of_the_encoder_in_the_order_of_the_names(photos, finished_run, tmp_path):
    files = api.embed(finished_run, photos, tmp_path / "x.npy")
    assert [file.name for file in files] == ["x.npy", "x.csv"]
    encoder = load_encoder(finished_run)
    pixels = np.stack([decode(photos / name, 32) for name in NAMES])
    with torch.no_grad():
        plain = encoder(torch.from_numpy(pixels).float() / 255).numpy()
    np.testing.assert_allclose(np.load(files[0]), plain, atol=1e-5)
    rows = list(csv.DictReader(files[1].read_text(encoding="utf-8").splitlines()))
    assert [row["file"] for row in rows] == NAMES
    content = (photos / NAMES[9]).read_bytes()
    assert rows[9] == {"file": NAMES[9], "bytes": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}


def test_every_format_holds_the_same(photos, finished_run, tmp_path):
    api.embed(finished_run, photos, tmp_path / "x.npy")
    features = np.load(tmp_path / "x.npy")
    api.embed(finished_run, photos, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        assert np.array_equal(arrays["features"], features)
        assert arrays["file"].tolist() == NAMES and len(set(arrays["sha256"])) == len(set(arrays["file"]))
        assert arrays["bytes"].tolist() == [os.path.getsize(photos / name) for name in NAMES]
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    api.embed(finished_run, photos, tmp_path / "x.parquet")
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert table.columns.tolist() == ["file", "bytes", "sha256", "features"] and table.file.tolist() == NAMES
    assert np.array_equal(np.stack(table.features), features)


def test_a_killed_command_goes_on_and_ends_with_the_same_bits(
    photos, finished_run, tmp_path, monkeypatch, small_batches, looked_at
):
    (photos / "001.png").write_bytes(b"broken")  # in the first batch, which it must not shift
    with monkeypatch.context() as patch:
        interrupt_at(patch, index_module, "write_tensors", 3)
        with pytest.raises(KeyboardInterrupt):
            api.embed(finished_run, photos, tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()
    looked_at.clear()
    api.embed(finished_run, photos, tmp_path / "x.npy")
    assert sorted(looked_at) == ["000.png", "001.png", "001.png", "002.png", "003.png"]  # a batch, and what failed
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "other"))
    api.embed(finished_run, photos, tmp_path / "y.npy")
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


def test_new_and_changed_files_alone_are_looked_at_and_gone_ones_left_out(photos, lens, small_batches, looked_at):
    before = gather(photos, lens)
    looked_at.clear()
    assert gather(photos, lens).names == before.names and looked_at == []
    drawings(photos / "new", 1, seed=7)
    (photos / "002.png").write_bytes((photos / "003.png").read_bytes())
    os.utime(photos / "002.png", ns=(1, 1))
    for name in NAMES[8:]:  # all of one part
        (photos / name).unlink()
    after = gather(photos, lens)
    assert sorted(looked_at) == ["000.png", "002.png"]
    assert after.names == [*NAMES[:8], "new/000.png"]
    features, old = after.whole(), before.images[8].part
    np.testing.assert_allclose(features[2], features[3], atol=1e-6)
    assert not old.exists()


def test_a_damaged_part_is_set_aside_and_its_images_looked_at_again(photos, lens, small_batches, looked_at, capsys):
    before = gather(photos, lens)
    features = before.whole()
    flip_bit(before.images[5].part)
    looked_at.clear()
    assert np.array_equal(gather(photos, lens).whole(), features)
    assert sorted(looked_at) == ["004.png", "005.png", "006.png", "007.png"]
    assert "is damaged" in capsys.readouterr().err


def test_what_cannot_be_read_is_counted_named_and_tried_again(photos, finished_run, tmp_path, capsys):
    whole = (photos / "004.png").read_bytes()
    (photos / "004.png").write_bytes(whole[:60])
    files = api.embed(finished_run, photos, tmp_path / "x.npz")
    assert [file.name for file in files] == ["x.npz", "x.unread.csv"]
    assert "1 of 12 images cannot be read and are passed over: '004.png'" in capsys.readouterr().err
    assert files[1].read_text().splitlines()[1].startswith("004.png,")
    (photos / "004.png").write_bytes(whole)
    assert [file.name for file in api.embed(finished_run, photos, tmp_path / "x.npz")] == ["x.npz"]
    assert not files[1].exists()
    with np.load(files[0]) as arrays:
        assert len(arrays["file"]) == 12


def test_what_cannot_work_is_refused_before_any_work(photos, finished_run, tmp_path, monkeypatch):
    with pytest.raises(BadSetting, match=r"ends in none of \.npy, \.npz, \.parquet"):
        api.embed(finished_run, photos, tmp_path / "x.txt")
    with pytest.raises(BadData, match="not the folder of a run"):
        api.embed(photos, photos, tmp_path / "x.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="no images in"):
        api.embed(finished_run, tmp_path / "empty", tmp_path / "x.npy")
    (tmp_path / "empty" / "a.png").write_bytes(b"no")
    with pytest.raises(BadData, match="none of the 1 images"):
        api.embed(finished_run, tmp_path / "empty", tmp_path / "x.npy")


def test_large_images_make_small_batches(lens):
    import dataclasses

    sizes = {size: dataclasses.replace(lens, image_size=size).batch for size in (32, 224, 2048)}
    assert sizes[32] == 256 and sizes[2048] == 2 and all(3 * h**2 * n <= 2**25 for h, n in sizes.items())
