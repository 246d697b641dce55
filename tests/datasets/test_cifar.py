"""CIFAR-10 and CIFAR-100 from files of their own format, with a few images in them."""

import hashlib
import pickle
import urllib.error

import numpy as np
import pytest
import torchvision

from lilliput.datasets import cifar10, cifar100
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.store import home

kinds = {"cifar10": (cifar10, torchvision.datasets.CIFAR10), "cifar100": (cifar100, torchvision.datasets.CIFAR100)}


@pytest.fixture(params=kinds)
def case(request, tmp_path, monkeypatch):
    """A kind of CIFAR, its files in a folder, and what is in them; any download fails."""
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "home"))
    module, kind = kinds[request.param]
    return Case(module, kind, tmp_path / "given", monkeypatch)


class Case:
    def __init__(self, module, kind, root, monkeypatch):
        self.module, self.kind, self.root, self.asked = module, kind, root, []
        self.folder = root / module.kind.folder
        self.classes = [f"class {number}" for number in range(10)]
        self.pixels, self.labels = {}, {}
        self.put(monkeypatch)
        monkeypatch.setattr(kind, "download", self.fail)

    def put(self, monkeypatch):
        self.folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        tables = {}
        for split, table in (("train", self.kind.train_list), ("test", self.kind.test_list)):
            images, labels, tables[split] = [], [], []
            for name, _ in table:
                images.append(rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8))
                labels.append(rng.integers(0, 10, 4).tolist())
                words = "labels" if self.kind is torchvision.datasets.CIFAR10 else "fine_labels"
                digest = self.write(name, {"data": images[-1].reshape(4, -1), words: labels[-1]})
                tables[split].append([name, digest])
            self.pixels[split], self.labels[split] = np.concatenate(images), np.concatenate(labels).tolist()
        meta = dict(self.kind.meta)
        meta["md5"] = self.write(meta["filename"], {meta["key"]: self.classes})
        monkeypatch.setattr(self.kind, "train_list", tables["train"])
        monkeypatch.setattr(self.kind, "test_list", tables["test"])
        monkeypatch.setattr(self.kind, "meta", meta)

    def write(self, name, content):
        content = pickle.dumps(content)
        (self.folder / name).write_bytes(content)
        return hashlib.md5(content).hexdigest()

    def fail(self):
        self.asked.append(1)
        raise urllib.error.URLError("no route to host")


def test_images_labels_and_classes_are_as_in_the_files(case):
    data = case.module.prepare(folder=case.root)
    for store, split in ((data.train, "train"), (data.test, "test")):
        assert np.array_equal(store.images, case.pixels[split])
        assert store.labels.tolist() == case.labels[split]
        assert store.classes == case.classes and store.image_size == 32
    assert np.array_equal(data.pool.images, case.pixels["train"])
    assert data.name == case.module.kind.name and not case.asked


def test_a_limit_spaces_the_pool(case):
    data = case.module.prepare(folder=case.root, limit=2)
    assert np.array_equal(data.pool.images, case.pixels["train"][[0, len(data.train) // 2]])
    assert data.pool.labels is None


def test_the_folder_itself_does_as_well(case):
    assert len(case.module.prepare(folder=case.folder).test) == 4


def test_files_in_the_home_folder_need_no_network(case):
    (home() / "downloads").mkdir(parents=True)
    case.folder.rename(home() / "downloads" / case.folder.name)
    assert len(case.module.prepare().test) == 4 and not case.asked


def test_the_second_call_reads_nothing(case, monkeypatch):
    first = case.module.prepare(folder=case.root)

    def never(*_, **__):
        raise AssertionError("read again")

    monkeypatch.setattr(case.kind, "__init__", never)
    again = case.module.prepare(folder=case.root)
    assert [store.folder for store in again[1:]] == [store.folder for store in first[1:]]


def test_other_sizes_are_resized(case):
    data = case.module.prepare(folder=case.root, image_size=16)
    assert data.train.image_size == 16
    assert np.abs(data.train.images.mean((2, 3)) - case.pixels["train"].mean((2, 3))).max() < 6
    with pytest.raises(BadSetting, match="3"):
        case.module.prepare(folder=case.root, image_size=3)


def test_without_a_network_the_address_and_the_way_out_are_named(case):
    with pytest.raises(LilliputError, match=f"{case.kind.url}.*no route.*downloads.*`folder`"):
        case.module.prepare()
    assert case.asked


def test_a_download_that_works_is_used(case, monkeypatch):
    def arrive(_):
        case.folder.rename(home() / "downloads" / case.folder.name)

    (home() / "downloads").mkdir(parents=True)
    monkeypatch.setattr(case.kind, "download", arrive)
    assert np.array_equal(case.module.prepare().train.images, case.pixels["train"])


def test_damaged_files_are_told_and_never_unpickled(case):
    name = case.kind.train_list[0][0]
    (case.folder / name).write_bytes(b"cbuiltins\nexit\n(tR.")  # a pickle that would end the process
    with pytest.raises(BadData, match=f"{case.folder} is damaged"):
        case.module.prepare(folder=case.root)


def test_a_folder_without_the_files_is_told(case):
    (case.folder / case.kind.meta["filename"]).unlink()
    with pytest.raises(BadData, match=f"{case.root} has no {case.folder.name}"):
        case.module.prepare(folder=case.root)


def test_the_files_named_here_are_those_that_torchvision_reads(case):
    read = [name for name, _ in case.kind.train_list + case.kind.test_list] + [case.kind.meta["filename"]]
    assert list(case.module.kind.files) == read and case.module.kind.folder == case.kind.base_folder
