"""CIFAR-10 and CIFAR-100 from files of their own format, with a few images in them."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision

from lilliput.data import download
from lilliput.datasets import cifar10, cifar100
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.system.files import home

kinds = {"cifar10": (cifar10, torchvision.datasets.CIFAR10), "cifar100": (cifar100, torchvision.datasets.CIFAR100)}


@pytest.fixture(params=kinds)
def case(request, tmp_path, monkeypatch):
    """A kind of CIFAR, its files in a folder, and what is in them; its address is one where nobody listens."""
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    module, kind = kinds[request.param]
    return Case(module, kind, tmp_path / "given", monkeypatch)


class Case:
    def __init__(self, module, kind, root, monkeypatch):
        self.module, self.kind, self.root = module, kind, root
        self.folder = root / module.KIND.folder
        self.classes = [f"class {number}" for number in range(10)]
        self.pixels, self.labels = {}, {}
        self.put(monkeypatch)
        monkeypatch.setattr(kind, "url", "http://127.0.0.1:9/cifar.tar.gz")

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

    def serve(self, monkeypatch, extra=()):
        """Put an archive where the address says, as a file: URLs of this kind need no server."""
        archive = self.root.parent / "served.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in extra:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            tar.add(self.folder, self.folder.name)
        monkeypatch.setattr(self.kind, "url", archive.as_uri())
        monkeypatch.setattr(self.kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        changed = self.module.KIND._replace(archive_bytes=archive.stat().st_size)
        monkeypatch.setattr(self.module, "KIND", changed)


def test_images_labels_and_classes_are_as_in_the_files(case):
    data = case.module.prepare(folder=case.root)
    for store, split in ((data.train, "train"), (data.test, "test")):
        assert np.array_equal(store.images, case.pixels[split])
        assert store.labels.tolist() == case.labels[split]
        assert store.classes == case.classes and store.image_size == 32
    assert np.array_equal(data.pool.images, case.pixels["train"])
    assert data.name == case.module.KIND.name


def test_a_limit_spaces_the_pool(case):
    data = case.module.prepare(folder=case.root, limit=2)
    assert np.array_equal(data.pool.images, case.pixels["train"][[0, len(data.train) // 2]])
    assert not data.pool.is_labelled


def test_the_folder_itself_does_as_well(case):
    assert len(case.module.prepare(folder=case.folder).test) == 4


def test_files_in_the_home_folder_need_no_network(case):
    (home() / "downloads").mkdir(parents=True)
    case.folder.rename(home() / "downloads" / case.folder.name)
    assert len(case.module.prepare().test) == 4


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
    with pytest.raises(LilliputError, match=f"{case.kind.url}.*refused.*downloads.*`folder`"):
        case.module.prepare()


def test_the_archive_is_downloaded_unpacked_and_removed(case, monkeypatch):
    case.serve(monkeypatch, extra=[("../outside", b"evil"), ("/tmp/lilliput-outside", b"evil")])
    assert np.array_equal(case.module.prepare().train.images, case.pixels["train"])
    downloads = home() / "downloads"
    ours = {downloads / case.folder.name / name for name in case.module.KIND.files}
    assert {path for path in downloads.rglob("*") if path.is_file()} == {*ours, downloads / ".lock"}


def test_an_archive_with_other_bytes_is_not_unpacked(case, monkeypatch):
    case.serve(monkeypatch)
    monkeypatch.setattr(case.kind, "tgz_md5", "0" * 32)
    with pytest.raises(LilliputError, match="instead of 00000000"):
        case.module.prepare()
    assert [path.name for path in (home() / "downloads").iterdir()] == [".lock"]


def test_a_tampered_file_is_refused_before_anything_in_it_runs(case, monkeypatch):
    """Whichever file, from the user's folder or the archive: a pickle can run any code."""
    mark = case.root.parent / "it ran"

    class Evil:
        def __reduce__(self):
            return Path.touch, (mark,)

    evil = pickle.dumps(Evil())
    for name in case.module.KIND.files:
        good = (case.folder / name).read_bytes()
        (case.folder / name).write_bytes(evil)
        with pytest.raises(BadData, match=f"{case.folder} is damaged"):
            case.module.prepare(folder=case.root)
        (case.folder / name).write_bytes(good)
    (case.folder / name).write_bytes(evil)
    case.serve(monkeypatch)
    with pytest.raises(BadData, match="is damaged"):
        case.module.prepare()
    assert not mark.exists()
    pickle.loads(evil)
    assert mark.exists()  # it would have


def test_a_folder_without_the_files_is_told(case):
    (case.folder / case.kind.meta["filename"]).unlink()
    with pytest.raises(BadData, match=f"{case.root} has no {case.folder.name}"):
        case.module.prepare(folder=case.root)


def test_the_files_named_here_are_those_that_torchvision_reads(case):
    read = [name for name, _ in case.kind.train_list + case.kind.test_list] + [case.kind.meta["filename"]]
    assert list(case.module.KIND.files) == read and case.module.KIND.folder == case.kind.base_folder
