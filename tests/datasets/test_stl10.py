"""STL-10 from files of its own format, with a few images in them."""

import gzip
import hashlib
import io
import shutil
import tarfile

import numpy as np
import pytest

from lilliput.data import archive, download
from lilliput.datasets import stl10
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.system.files import home

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
    monkeypatch.setattr(stl10, "MD5S", {name: hashlib.md5(content).hexdigest() for name, content in files.items()})
    monkeypatch.setattr(stl10, "UNPACKED_BYTES", sum(map(len, files.values())) + (1 << 20))
    monkeypatch.setattr(stl10, "URL", "http://127.0.0.1:9/stl10_binary.tar.gz")  # where nobody listens
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)


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
    assert not data.pool.is_labelled and data.name == "stl10"
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
    assert np.array_equal(few.pool.images, stored(images["train"][[0, 10]])) and not few.pool.is_labelled


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


def official(names, extra=()):
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
        monkeypatch.setattr(stl10, "URL", path.as_uri())
        monkeypatch.setattr(stl10, "ARCHIVE_MD5", hashlib.md5(content).hexdigest())
        monkeypatch.setattr(stl10, "ARCHIVE_BYTES", len(content))

    return serve


def test_the_archive_is_downloaded_unpacked_and_removed(served, tmp_path):
    served(official(files, extra=["../outside.bin", "/tmp/lilliput-outside.bin", "stl10_binary/fold_indices.txt"]))
    data = stl10.prepare()
    assert np.array_equal(data.pool.images, stored(images["unlabeled"])) and len(data.test) == 10
    place = home() / "downloads" / "stl10_binary"
    assert {path.name for path in place.iterdir()} == set(files)  # nothing else, inside
    assert {path.name for path in place.parent.iterdir()} == {"stl10_binary", ".lock"}  # nor outside
    (tmp_path / "served.tar.gz").unlink()
    assert stl10.prepare().pool.folder == data.pool.folder  # now without the network


def test_an_archive_without_a_file_is_told(served):
    served(official([name for name in files if name != "test_X.bin"]))
    with pytest.raises(BadData, match=r"no test_X\.bin"):
        stl10.prepare()


def test_interrupted_unpacking_is_done_again_from_the_archive(served, monkeypatch):
    served(official(files))
    real = archive.shutil.copyfileobj

    def cut(source, target, length):
        raise KeyboardInterrupt

    monkeypatch.setattr(archive.shutil, "copyfileobj", cut)
    with pytest.raises(KeyboardInterrupt):
        stl10.prepare()
    monkeypatch.setattr(archive.shutil, "copyfileobj", real)
    monkeypatch.setattr(stl10, "URL", "http://127.0.0.1:9/")
    assert len(stl10.prepare().pool) == 12


def test_a_wrong_archive_is_refused(served, monkeypatch):
    served(official(files))
    monkeypatch.setattr(stl10, "ARCHIVE_MD5", "0" * 32)
    with pytest.raises(LilliputError, match="instead of 00000000"):
        stl10.prepare()


def packed(*members):
    """An archive of (TarInfo, content) in which nothing need be true."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def member(name, kind=tarfile.REGTYPE, *, size=0, target=""):
    about = tarfile.TarInfo(name)
    about.type, about.size, about.linkname = kind, size, target
    return about


def whole(names=tuple(files)):
    return [(member(f"stl10_binary/{name}", size=len(files[name])), files[name]) for name in names]


def all_below(folder):
    return {path for path in folder.rglob("*") if not path.is_dir() and path.name != ".lock"}


@pytest.mark.parametrize("name", ["train_X.bin", "escaped"])
@pytest.mark.parametrize("folder", ["../", "../../../", "stl10_binary/../../", "OUTSIDE/", "./", ""])
def test_a_file_of_any_folder_lands_in_ours_or_nowhere(served, tmp_path, folder, name):
    (tmp_path / "outside").mkdir()
    evil = member(folder.replace("OUTSIDE", str(tmp_path / "outside")) + name, size=len(files["train_X.bin"]))
    served(packed((evil, bytes(evil.size)), *whole()))
    place = stl10._downloaded()
    assert all_below(tmp_path) == {place / name for name in files} | {tmp_path / "served.tar.gz"}
    assert (place / "train_X.bin").read_bytes() == files["train_X.bin"]


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "DIRTYPE"])
def test_links_devices_pipes_and_folders_are_never_made(served, tmp_path, kind):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    links = [
        (member(f"stl10_binary/{name}", getattr(tarfile, kind), target=str(precious)), b"")
        for name in ("train_X.bin", "train_X.bin.part", "other")
    ]
    served(packed(*links, *whole()))
    place = stl10._downloaded()
    assert (
        {path for path in place.iterdir() if path.is_file() and not path.is_symlink()}
        == {place / name for name in files}
        == set(place.iterdir())
    )
    assert precious.read_bytes() == b"precious"
    shutil.rmtree(place)
    served(packed(*links, *whole([name for name in files if name != "train_X.bin"])))
    with pytest.raises(BadData, match=r"has no train_X\.bin"):
        stl10._downloaded()
    assert precious.read_bytes() == b"precious"


def test_what_unpacks_to_more_than_it_should_is_refused_before_it_is_written(served):
    """A gzip bomb: 64 MiB of zeros in 64 KiB; as a known file, and as one that nobody wants."""
    for name, said in (("stl10_binary/train_y.bin", "train_y"), ("zeros", "zeros")):
        bomb = packed((member(name, size=64 << 20), bytes(64 << 20)), *whole())
        assert len(bomb) < 2 << 20
        served(bomb)
        with pytest.raises(BadData, match=f"is damaged .*{said}.* of 67108864 bytes is more than belongs there"):
            stl10._downloaded()
        assert all_below(home()) == {home() / "downloads" / "stl10_binary.tar.gz"}


def test_many_small_files_do_not_unpack_for_ever(served, monkeypatch):
    served(packed(*((member(f"nothing {number}"), b"") for number in range(9000)), *whole()))
    with pytest.raises(BadData, match="is damaged"):
        stl10._downloaded()


def test_a_negative_size_is_refused(served):
    """Python's own reader goes round in circles on it: CVE-2025-8194."""
    about = member("other", size=-512)
    content = io.BytesIO(about.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    served(gzip.compress(content.getvalue()))
    with pytest.raises(BadData, match="other of -512 bytes is more than belongs there"):
        stl10._downloaded()


@pytest.mark.parametrize("harm", ["longer than said", "shorter than said", "cut", "no gzip", "no tar"])
def test_a_damaged_archive_is_named_in_one_line(served, harm):
    good = packed(*whole())
    plain = gzip.decompress(good)
    first = tarfile.BLOCKSIZE + len(files["train_X.bin"])
    served(
        {
            "longer than said": gzip.compress(plain[:first] + bytes([1]) * 2048 + plain[first:]),
            "shorter than said": gzip.compress(plain[: first - 4096]),
            "cut": good[: len(good) // 2],
            "no gzip": b"\x1f\x8b" + bytes(1000),
            "no tar": b"<html>" * 1000,
        }[harm]
    )
    with pytest.raises(LilliputError, match=r"stl10_binary\.tar\.gz.*remove it and try again") as raised:
        stl10._downloaded()
    assert "\n" not in str(raised.value)
    place = home() / "downloads" / "stl10_binary"
    assert all(path.suffix == ".part" for path in place.iterdir())  # so the next call does not take it for whole
