"""STL-10 from files of its own format, with a few images in them."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from lilliput import download
from lilliput.datasets import stl10
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.store import home

rng = np.random.default_rng(0)
counts = {"train": 20, "test": 10, "unlabeled": 12}
images = {part: rng.integers(0, 256, (count, 96, 96, 3), dtype=np.uint8) for part, count in counts.items()}  # [N,H,W,3]
labels = {"train": np.arange(20) % 10, "test": np.arange(10)[::-1]}


def contents():
    """The official files: for each image its channels, for each channel its columns; labels count from 1."""
    files = {}
    for part, pixels in images.items():
        files[f"{part}_X.bin"] = b"".join(
            pixels[n, :, column, channel].tobytes()
            for n in range(len(pixels))
            for channel in range(3)
            for column in range(96)
        )
    for part, numbers in labels.items():
        files[f"{part}_y.bin"] = bytes(number + 1 for number in numbers.tolist())
    return files


files = contents()


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(stl10, "md5s", {name: hashlib.md5(content).hexdigest() for name, content in files.items()})
    monkeypatch.setattr(stl10, "url", "http://127.0.0.1:9/stl10_binary.tar.gz")  # where nobody listens
    monkeypatch.setattr(download, "pause_seconds", 0.0)


@pytest.fixture
def folder(tmp_path):
    return put(tmp_path / "given")


def put(place, names=tuple(files)):
    place.mkdir(parents=True)
    for name in names:
        (place / name).write_bytes(files[name])
    return place


def stored(pixels):
    return pixels.transpose(0, 3, 1, 2)


def test_the_images_are_upright_and_the_labels_count_from_0(folder):
    data = stl10.prepare(folder=folder)
    assert np.array_equal(data.train.images, stored(images["train"]))
    assert np.array_equal(data.test.images, stored(images["test"]))
    assert np.array_equal(data.pool.images, stored(images["unlabeled"]))
    assert data.train.labels.tolist() == labels["train"].tolist()
    assert data.test.labels.tolist() == labels["test"].tolist()
    assert data.pool.labels is None and data.name == "stl10"
    assert len(data.train.classes) == 10 and data.train.classes[2] == "car"


def test_the_folder_above_does_as_well(tmp_path):
    put(tmp_path / "above" / "stl10_binary")
    assert len(stl10.prepare(folder=tmp_path / "above").train) == 20


def test_files_in_the_home_folder_need_no_network():
    put(home() / "downloads" / "stl10_binary")
    assert len(stl10.prepare().pool) == 12


def test_smaller_images_keep_their_means(folder):
    data = stl10.prepare(folder=folder, image_size=32)
    assert data.pool.image_size == data.train.image_size == data.test.image_size == 32
    assert np.abs(data.train.images.mean((2, 3)) - stored(images["train"]).mean((2, 3))).max() < 2


def test_a_limit_spaces_the_pool(folder):
    data = stl10.prepare(folder=folder, limit=4)
    assert np.array_equal(data.pool.images, stored(images["unlabeled"][[0, 3, 6, 9]]))
    assert len(data.train) == 20


def test_without_the_unlabelled_images_the_training_images_are_the_pool(folder):
    data = stl10.prepare(folder=folder, unlabelled=False)
    assert np.array_equal(data.pool.images, data.train.images)
    few = stl10.prepare(folder=folder, unlabelled=False, limit=2)
    assert np.array_equal(few.pool.images, stored(images["train"][[0, 10]])) and few.pool.labels is None


def test_the_absence_of_the_unlabelled_file_is_said_in_one_line(folder, capsys):
    (folder / "unlabeled_X.bin").unlink()
    data = stl10.prepare(folder=folder)
    assert np.array_equal(data.pool.images, data.train.images)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "unlabeled_X.bin" in said


def test_the_second_call_neither_checks_nor_reads(folder, monkeypatch):
    first = stl10.prepare(folder=folder)

    def never(*_):
        raise AssertionError("checked again")

    monkeypatch.setattr(stl10, "md5_of", never)
    again = stl10.prepare(folder=folder)
    assert [store.folder for store in again[1:]] == [store.folder for store in first[1:]]


@pytest.mark.parametrize("name", list(files))
def test_a_damaged_file_is_named_with_both_digests(folder, name):
    damaged = bytes([files[name][0] ^ 1]) + files[name][1:]
    (folder / name).write_bytes(damaged)
    digest = f"{hashlib.md5(damaged).hexdigest()}.*{hashlib.md5(files[name]).hexdigest()}"
    with pytest.raises(BadData, match=f"{name}.*{digest}"):
        stl10.prepare(folder=folder)


def test_a_cut_file_is_named(folder):
    (folder / "train_X.bin").write_bytes(files["train_X.bin"][:-1])
    with pytest.raises(BadData, match=r"train_X\.bin"):
        stl10.prepare(folder=folder)


def test_a_folder_without_the_files_is_told_what_is_missing(folder):
    (folder / "test_y.bin").unlink()
    with pytest.raises(BadData, match=r"lacks test_y\.bin"):
        stl10.prepare(folder=folder)


def test_a_wrong_size_is_told_before_any_download():
    with pytest.raises(BadSetting, match="5"):
        stl10.prepare(image_size=5)


def test_without_a_network_the_address_and_the_way_out_are_named():
    with pytest.raises(LilliputError, match=r"http://127\.0\.0\.1:9/stl10_binary.*downloads.stl10_binary.*`folder`"):
        stl10.prepare()


def archive(names, extra=()):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
        for name in extra:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("stl10_binary/train_X.bin.lnk")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return packed.getvalue()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Put an archive where its address says, as a file: URLs of this kind need no server."""

    def serve(content):
        path = tmp_path / "served.tar.gz"
        path.write_bytes(content)
        monkeypatch.setattr(stl10, "url", path.as_uri())
        monkeypatch.setattr(stl10, "archive_md5", hashlib.md5(content).hexdigest())

    return serve


def test_the_archive_is_downloaded_unpacked_and_removed(served, tmp_path):
    served(archive(files, extra=["../outside.bin", "/tmp/lilliput-outside.bin", "stl10_binary/fold_indices.txt"]))
    data = stl10.prepare()
    assert np.array_equal(data.pool.images, stored(images["unlabeled"])) and len(data.test) == 10
    place = home() / "downloads" / "stl10_binary"
    assert {path.name for path in place.iterdir()} == set(files)  # nothing else, inside
    assert [path.name for path in place.parent.iterdir()] == ["stl10_binary"]  # nor outside
    (tmp_path / "served.tar.gz").unlink()
    assert stl10.prepare().pool.folder == data.pool.folder  # now without the network


def test_an_archive_without_a_file_is_told(served):
    served(archive([name for name in files if name != "test_X.bin"]))
    with pytest.raises(BadData, match=r"no test_X\.bin"):
        stl10.prepare()


def test_interrupted_unpacking_is_done_again_from_the_archive(served, monkeypatch):
    served(archive(files))
    real = stl10.shutil.copyfileobj

    def cut(source, target, length):
        raise KeyboardInterrupt

    monkeypatch.setattr(stl10.shutil, "copyfileobj", cut)
    with pytest.raises(KeyboardInterrupt):
        stl10.prepare()
    monkeypatch.setattr(stl10.shutil, "copyfileobj", real)
    monkeypatch.setattr(stl10, "url", "http://127.0.0.1:9/")
    assert len(stl10.prepare().pool) == 12


def test_a_wrong_archive_is_refused(served, monkeypatch):
    served(archive(files))
    monkeypatch.setattr(stl10, "archive_md5", "0" * 32)
    with pytest.raises(LilliputError, match="instead of 00000000"):
        stl10.prepare()
