"""Named data sets that come as archives of image files: of their own layout, with a few small images in them."""

import hashlib
import http.server
import inspect
import io
import tarfile
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from lilliput.data import download
from lilliput.datasets import caltech101, eurosat, flowers102, imagenette, imagewoof, pets, tiny_imagenet
from lilliput.errors import BadData, LilliputError
from lilliput.system.files import home

MODULES = {
    module.KIND.name: module for module in (caltech101, eurosat, flowers102, imagenette, imagewoof, pets, tiny_imagenet)
}
EUROSAT = ("AnnualCrop", "Forest", "SeaLake")


def picture(value, kind="JPEG"):
    """One image of one grey, by which it is known again."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (value,) * 3).save(file, kind)
    return file.getvalue()


def table(**arrays):
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def imagenette_files(classes):
    """Two images of each class to train, one to test; greys of 10 and more, by class."""
    files = {}
    for label, number in enumerate(classes):
        for split, count in (("train", 2), ("val", 1)):
            for image in range(count):
                files[f"{split}/{number}/{number}_{image}.JPEG"] = picture(10 * label + image + 3 * (split == "val"))
    return files


def tiny_files():
    numbers = {"n02": "goldfish, Carassius auratus", "n01": "crane", "n03": "crane, machine"}
    files = {"wnids.txt": "\n".join(numbers).encode()}
    files["words.txt"] = "".join(f"{number}\t{words}\n" for number, words in numbers.items()).encode()
    files["val/val_annotations.txt"] = "".join(f"val_{n}.JPEG\tn0{n}\t0\t0\t9\t9\n" for n in (1, 2, 3)).encode()
    for number in (1, 2, 3):
        files[f"val/images/val_{number}.JPEG"] = picture(10 * number + 5)
        files[f"train/n0{number}/n0{number}_boxes.txt"] = b"boxes"
        for image in range(2):
            files[f"train/n0{number}/images/n0{number}_{image}.JPEG"] = picture(10 * number + image)
    return files


def flowers_files():
    """102 flowers: images 1 to 102 train, 103 to 204 validate, 205 to 306 test; the labels run backwards."""
    labels = np.tile(np.arange(102, 0, -1), 3)
    files = {f"jpg/image_{n:05d}.jpg": picture(n % 250) for n in range(1, 307)}
    files["imagelabels.mat"] = table(labels=labels[None])
    splits = np.arange(1, 307).reshape(3, 1, 102)
    files["setid.mat"] = table(trnid=splits[0], valid=splits[1], tstid=splits[2])
    return files


def pets_files():
    """Sphynx and Abyssinian, numbered in that order, so that no sorting gives it."""
    listed = {"trainval": ["Sphynx_1 1 1 1", "old_English_2 2 2 1"], "test": ["Sphynx_3 1 1 1", "old_English_4 2 2 1"]}
    files = {f"annotations/{split}.txt": ("#comment\n" + "\n".join(lines)).encode() for split, lines in listed.items()}
    for number, name in enumerate(("Sphynx_1", "old_English_2", "Sphynx_3", "old_English_4"), 1):
        files[f"images/{name}.jpg"] = picture(10 * number, "PNG" if number == 2 else "JPEG")
    return files


def classes_files(classes, count=5):
    return {
        f"{name}/{name}_{image}.jpg": picture(10 * label + image)
        for label, name in enumerate(classes)
        for image in range(count)
    }


FILES = {
    "imagenette": imagenette_files(imagenette.CLASSES),
    "imagewoof": imagenette_files(imagewoof.CLASSES),
    "tiny_imagenet": tiny_files(),
    "flowers102": flowers_files(),
    "pets": pets_files(),
    "eurosat": classes_files(EUROSAT),
    "caltech101": {
        f"101_ObjectCategories/{name}": content
        for name, content in classes_files(("accordion", "wild_cat", "BACKGROUND_Google")).items()
    },
}


def tarred(files):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def zipped(files):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def official(name, files):
    """The archives as their makers lay them out: file -> content."""
    inside = {f"{MODULES[name].KIND.inside}/{file}": content for file, content in files.items()}
    if name == "caltech101":
        inner = {"caltech-101/101_ObjectCategories.tar.gz": tarred(files), "caltech-101/show_annotation.m": b"code"}
        return {"caltech-101.zip": zipped(inner)}
    if name == "flowers102":
        images = {file: content for file, content in files.items() if file.startswith("jpg/")}
        return {"102flowers.tgz": tarred(images), **{file: files[file] for file in ("imagelabels.mat", "setid.mat")}}
    if name == "pets":
        folders = ("images", "annotations")
        return {
            f"{folder}.tar.gz": tarred({f: c for f, c in files.items() if f.startswith(folder)}) for folder in folders
        }
    (remote,) = MODULES[name].KIND.remotes
    return {remote.file: (zipped if remote.file.endswith(".zip") else tarred)(inside)}


def put(place, files):
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


@pytest.fixture(params=MODULES)
def name(request, monkeypatch):
    """Of each data set, whose server is one where nobody listens."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    point(monkeypatch, request.param, "http://127.0.0.1:9")
    return request.param


def point(monkeypatch, name, address, archives=None):
    """Let the data set's files be at another address, with the digests of other archives."""
    kind = MODULES[name].KIND
    remotes = []
    for remote in kind.remotes:
        md5 = hashlib.md5(archives[remote.file]).hexdigest() if archives else remote.md5
        remotes.append(remote._replace(url=f"{address}/{remote.file}", md5=md5))
    monkeypatch.setattr(MODULES[name], "KIND", kind._replace(remotes=remotes))


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Serves archives of files, or archives that are given whole, on this machine."""
    servers = []

    def begin(name, files=None, archives=None):
        archives = archives or official(name, files or FILES[name])
        put(tmp_path / "served", archives)
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append((server, thread := threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)))
        thread.start()
        point(monkeypatch, name, f"http://127.0.0.1:{server.server_port}", archives)

    yield begin
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def greys(store):
    """The class's name of each image, by its grey."""
    means = store.images.mean((1, 2, 3)).round().astype(int).tolist()
    return sorted(zip(means, (store.classes[label] for label in store.labels), strict=True))


def test_what_is_given_is_read_from_the_folder_or_its_parent(name, tmp_path):
    kind = MODULES[name].KIND
    place = put(tmp_path / "given" / kind.inside, FILES[name])
    data, above = (MODULES[name].prepare(folder=folder) for folder in (place, place.parent))
    assert data.name == name and data.pool is data.train and data.train.image_size == 16
    assert [store.folder for store in data[1:]] == [store.folder for store in above[1:]]


def test_the_archives_are_fetched_unpacked_and_removed(name, serve, tmp_path, monkeypatch):
    serve(name)
    data = MODULES[name].prepare()
    given = MODULES[name].prepare(folder=put(tmp_path / "given", FILES[name]))
    assert greys(data.train) == greys(given.train) and greys(data.test) == greys(given.test)
    assert {path.name for path in (home() / "downloads").iterdir()} == {name, ".lock"}
    point(monkeypatch, name, "http://127.0.0.1:9")
    assert MODULES[name].prepare().test.folder == data.test.folder  # now without the network


def test_without_a_network_the_address_and_the_way_out_are_named(name):
    url = MODULES[name].KIND.remotes[0].url
    with pytest.raises(LilliputError, match=f"{url}.*refused.*downloads/{name}, or in a folder given as `folder`"):
        MODULES[name].prepare()
    assert not (home() / "downloads" / name).exists()


def test_a_folder_without_the_files_is_told(name, tmp_path):
    with pytest.raises(BadData, match=f"{tmp_path} has no {MODULES[name].KIND.inside}/ with .*leave folder out"):
        MODULES[name].prepare(folder=tmp_path)


def test_an_archive_with_other_bytes_is_not_unpacked(name, serve, monkeypatch):
    serve(name)
    kind = MODULES[name].KIND
    monkeypatch.setattr(
        MODULES[name], "KIND", kind._replace(remotes=[remote._replace(md5="0" * 32) for remote in kind.remotes])
    )
    with pytest.raises(LilliputError, match="instead of 00000000"):
        MODULES[name].prepare()
    assert {path.name for path in (home() / "downloads").iterdir()} == {".lock"}


def test_the_digests_are_those_that_torchvision_knows(name):
    theirs = {
        "caltech101": torchvision.datasets.Caltech101,
        "eurosat": torchvision.datasets.EuroSAT,
        "flowers102": torchvision.datasets.Flowers102,
        "imagenette": torchvision.datasets.Imagenette,
        "pets": torchvision.datasets.OxfordIIITPet,
    }
    if name not in theirs:
        pytest.skip("torchvision has no such data set")
    text = inspect.getsource(theirs[name])
    assert all(remote.md5 in text for remote in MODULES[name].KIND.remotes)


def test_imagenettes_classes_are_called_by_their_first_words():
    assert {
        number: words[0] for number, words in torchvision.datasets.Imagenette._WNID_TO_CLASS.items()
    } == imagenette.CLASSES


@pytest.mark.parametrize("module", [imagenette, imagewoof])
def test_imagenettes_folders_are_classes_and_the_validation_images_test(module, tmp_path):
    data = module.prepare(folder=put(tmp_path, FILES[module.KIND.name]))
    names = list(module.CLASSES.values())
    assert data.train.classes == names
    assert greys(data.train) == [(10 * label + image, names[label]) for label in range(10) for image in range(2)]
    assert greys(data.test) == [(10 * label + 3, names[label]) for label in range(10)]


def test_tiny_imagenets_classes_have_their_first_word_or_their_number_where_two_share_it(tmp_path):
    data = tiny_imagenet.prepare(folder=put(tmp_path, FILES["tiny_imagenet"]))
    assert data.train.classes == ["n01", "goldfish", "n03"]
    assert greys(data.train) == [(10, "n01"), (11, "n01"), (20, "goldfish"), (21, "goldfish"), (30, "n03"), (31, "n03")]
    assert greys(data.test) == [(15, "n01"), (25, "goldfish"), (35, "n03")]
    (tmp_path / "words.txt").write_text("n01 crane")
    with pytest.raises(BadData, match=r"words.txt has a line 'n01 crane' of one column"):
        tiny_imagenet.prepare(folder=tmp_path)


def test_flowers_train_by_two_of_their_splits(tmp_path):
    data = flowers102.prepare(folder=put(tmp_path, FILES["flowers102"]))
    assert data.train.classes == torchvision.datasets.Flowers102.classes
    wanted = [number % 250 for number in range(1, 205)]  # files are read in the order of their names
    assert data.train.images.mean((1, 2, 3)).round().tolist() == wanted
    assert data.train.labels.tolist() == list(range(101, -1, -1)) * 2
    assert data.test.labels.tolist() == list(range(101, -1, -1))
    (tmp_path / "setid.mat").write_bytes(table(trnid=[1], valid=[2], tstid=[307]))
    with pytest.raises(BadData, match="names images outside 1 to 306"):
        flowers102.prepare(folder=tmp_path)
    (tmp_path / "setid.mat").write_bytes(b"no table")
    with pytest.raises(BadData, match=r"setid.mat cannot be read"):
        flowers102.prepare(folder=tmp_path)


def test_pets_breeds_are_in_the_order_of_their_numbers(tmp_path):
    data = pets.prepare(folder=put(tmp_path, FILES["pets"]))
    assert data.train.classes == ["Sphynx", "old English"]
    assert greys(data.train) == [(10, "Sphynx"), (20, "old English")]
    assert greys(data.test) == [(30, "Sphynx"), (40, "old English")]
    (tmp_path / "annotations" / "test.txt").write_text("Sphynx_3 one 1 1")
    with pytest.raises(BadData, match=r"test.txt has a line 'Sphynx_3 one 1 1' without the number of a breed"):
        pets.prepare(folder=tmp_path)


@pytest.mark.parametrize("module", [caltech101, eurosat])
def test_what_has_no_split_is_split_always_alike_and_clutter_is_no_class(module, tmp_path):
    name = module.KIND.name
    first = module.prepare(folder=put(tmp_path / "a", FILES[name]))
    again = module.prepare(folder=put(tmp_path / "b", FILES[name]))
    assert first.train.classes == (["accordion", "wild_cat"] if module is caltech101 else list(EUROSAT))
    assert [np.bincount(store.labels).tolist() for store in (first.train, first.test)] == [
        [4] * len(first.train.classes),
        [1] * len(first.train.classes),
    ]
    assert greys(first.test) == greys(again.test) and not set(greys(first.test)) & set(greys(first.train))


def test_a_limit_spaces_the_pool_and_leaves_train_and_test(tmp_path):
    data = imagenette.prepare(folder=put(tmp_path, FILES["imagenette"]), limit=5)
    assert (len(data.pool), len(data.train), len(data.test)) == (5, 20, 10) and not data.pool.is_labelled
