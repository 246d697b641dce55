"""SVHN and Fashion-MNIST from files of their own formats, with a few images in them."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from lilliput.data import download
from lilliput.datasets import fashion_mnist, svhn
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home

SVHN, FASHION = torchvision.datasets.SVHN, torchvision.datasets.FashionMNIST
rng = np.random.default_rng(0)
colours = {
    split: rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for split, count in (("train", 6), ("test", 4))
}
greys = {split: rng.integers(0, 256, (count, 28, 28), dtype=np.uint8) for split, count in (("train", 6), ("t10k", 4))}


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(FASHION, "mirrors", ["http://127.0.0.1:9/"])
    splits = {split: ["http://127.0.0.1:9/" + row[1], *row[1:]] for split, row in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", splits)


def put_svhn(place, monkeypatch, served=None):
    """The official files: [H, H, 3, N], and labels in which ten means nought."""
    place.mkdir(parents=True)
    splits = {}
    for split, pixels in colours.items():
        labels = np.arange(1, len(pixels) + 1)
        labels[0] = 10
        savemat(place / f"{split}_32x32.mat", {"X": pixels.transpose(1, 2, 3, 0), "y": labels[:, None]})
        file = place / f"{split}_32x32.mat"
        url = file.as_uri() if served else f"http://127.0.0.1:9/{file.name}"
        splits[split] = [url, file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", splits)
    return place


def idx(array):
    """Big-endian: two noughts, 8 for bytes, the number of sizes, the sizes, the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def put_fashion(place):
    place.mkdir(parents=True)
    for split, pixels in greys.items():
        (place / f"{split}-images-idx3-ubyte").write_bytes(idx(pixels))
        (place / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(pixels), dtype=np.uint8)))
    return place


def test_svhns_images_are_upright_and_ten_is_nought(tmp_path, monkeypatch):
    data = svhn.prepare(folder=put_svhn(tmp_path / "given", monkeypatch))
    for store, split in ((data.train, "train"), (data.test, "test")):
        assert np.array_equal(store.images, colours[split].transpose(0, 3, 1, 2))
    assert data.train.labels.tolist() == [0, 2, 3, 4, 5, 6] and data.train.classes == list("0123456789")
    assert (
        data.name == "svhn"
        and data.pool is data.train
        and len(svhn.prepare(folder=tmp_path / "given", limit=2).pool) == 2
    )


def test_svhn_is_fetched_once(tmp_path, monkeypatch):
    put_svhn(tmp_path / "served", monkeypatch, served=True)
    assert np.array_equal(svhn.prepare().test.images, colours["test"].transpose(0, 3, 1, 2))
    assert {path.name for path in (home() / "downloads" / "svhn").iterdir()} == {"train_32x32.mat", "test_32x32.mat"}
    (tmp_path / "served" / "test_32x32.mat").unlink()
    assert len(svhn.prepare().test) == 4


def test_a_tampered_file_of_svhn_is_refused(tmp_path, monkeypatch):
    place = put_svhn(tmp_path / "given", monkeypatch)
    savemat(place / "train_32x32.mat", {"X": colours["train"], "y": np.ones(6)})
    with pytest.raises(BadData, match="given is damaged"):
        svhn.prepare(folder=place)


def test_fashion_mnists_greys_are_in_all_three_channels(tmp_path):
    place = put_fashion(tmp_path / "FashionMNIST" / "raw")
    for folder in (tmp_path, place):
        data = fashion_mnist.prepare(folder=folder)
        for store, split in ((data.train, "train"), (data.test, "t10k")):
            assert np.array_equal(store.images, np.repeat(greys[split][:, None], 3, axis=1))
            assert store.labels.tolist() == list(range(len(greys[split])))
    assert data.train.classes == FASHION.classes and data.train.image_size == 28


@pytest.mark.parametrize("content", [b"", b"<html>", idx(np.zeros((6, 9, 9), np.uint8)), idx(greys["train"])[:-5]])
def test_a_file_of_fashion_mnist_that_is_none_is_told(tmp_path, content):
    place = put_fashion(tmp_path / "FashionMNIST" / "raw")
    (place / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(BadData, match="raw is damaged"):
        fashion_mnist.prepare(folder=tmp_path)


def serve_fashion(tmp_path, monkeypatch, harm=lambda content: content):
    resources = []
    for file in sorted(put_fashion(tmp_path / "served").iterdir()):
        packed = gzip.compress(harm(file.read_bytes()))
        file.with_name(f"{file.name}.gz").write_bytes(packed)
        resources.append((f"{file.name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(FASHION, "mirrors", [(tmp_path / "served").as_uri() + "/"])
    monkeypatch.setattr(FASHION, "resources", resources)


def test_fashion_mnist_is_fetched_and_unpacked(tmp_path, monkeypatch):
    serve_fashion(tmp_path, monkeypatch)
    assert np.array_equal(fashion_mnist.prepare().test.images[:, 0], greys["t10k"])
    assert {path.name for path in (home() / "downloads" / fashion_mnist.FOLDER).iterdir()} == set(fashion_mnist.FILES)


def test_a_gzip_bomb_is_refused_before_it_is_written(tmp_path, monkeypatch):
    serve_fashion(tmp_path, monkeypatch, lambda content: bytes(64 << 20))
    with pytest.raises(BadData, match=r"is damaged \(more than belongs there"):
        fashion_mnist.prepare()
    sizes = [path.stat().st_size for path in (home() / "downloads").rglob("*") if path.is_file()]
    assert max(sizes) <= fashion_mnist.UNPACKED_BYTES


@pytest.mark.parametrize("module", [svhn, fashion_mnist])
def test_without_a_network_the_address_and_the_way_out_are_named(module):
    with pytest.raises(LilliputError, match=r"http://127.0.0.1:9/.*refused.*downloads.*`folder`"):
        module.prepare()


@pytest.mark.parametrize("module", [svhn, fashion_mnist])
def test_a_folder_without_the_files_is_told(module, tmp_path):
    with pytest.raises(BadData, match=f"{tmp_path} has no .* with .*train.*leave folder out"):
        module.prepare(folder=tmp_path)


def test_the_files_named_here_are_those_that_torchvision_reads():
    assert sorted(f"{file}.gz" for file in fashion_mnist.FILES) == sorted(file for file, _ in FASHION.resources)
