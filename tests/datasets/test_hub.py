"""Data sets in the form of Hugging Face's hub, written here by its own library: parquet, folders, saved ones."""

import builtins
import io
import sys

import numpy as np
import pytest
from PIL import Image

from lilliput import open_data
from lilliput.errors import BadData, BadSetting, LilliputError, UnknownName

datasets = pytest.importorskip("datasets")
CLASSES = ["ant", "bee"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def png(value, side=16):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value,) * 3).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def rows_of(values, labels=None, **others):
    columns = {"number": list(values), "photo": [png(value) for value in values], **others}
    features = {"number": datasets.Value("int64"), "photo": datasets.Image()}
    features |= {name: datasets.Image() for name in others}
    if labels is not None:
        columns["kind"], features["kind"] = list(labels), datasets.ClassLabel(names=CLASSES)
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def parquet(folder, **splits):
    """As the hub lays them out: data/SPLIT-00000-of-00001.parquet."""
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return f"hf/{folder}"


def greys(store):
    return store.images.mean((1, 2, 3)).round().astype(int).tolist()


def test_train_and_test_are_read_with_their_classes(tmp_path):
    name = parquet(tmp_path / "bugs", train=rows_of(range(10, 20), [0, 1] * 5), test=rows_of([30, 31], [1, 0]))
    data = open_data(name)
    assert greys(data.train) == list(range(10, 20)) and data.train.labels.tolist() == [0, 1] * 5
    assert greys(data.test) == [30, 31] and data.test.labels.tolist() == [1, 0] and data.test.classes == CLASSES
    assert data.name == "hf-bugs" and data.pool is data.train and data.train.image_size == 16
    again = open_data(name, limit=5, image_size=8)
    assert greys(again.pool) == [10, 12, 14, 16, 18] and not again.pool.is_labelled and again.pool.image_size == 8


def test_a_path_from_here_and_what_the_library_saved_do_as_well(tmp_path, monkeypatch):
    parquet(tmp_path / "bugs", train=rows_of([1, 2, 3], [0, 1, 0]), validation=rows_of([4, 5], [0, 1]))
    saved = datasets.DatasetDict(train=rows_of([1, 2, 3], [0, 1, 0]), validation=rows_of([4, 5], [0, 1]))
    saved.save_to_disk(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    for name in ("hf/./bugs", "hf/./saved"):
        data = open_data(name)
        assert greys(data.train) == [1, 2, 3] and greys(data.test) == [4, 5]


def test_a_folder_of_files_is_decoded_by_us_and_one_that_cannot_be_read_is_left_out(tmp_path, capsys):
    for split, kind, number in [(s, k, n) for s in ("train", "test") for k in CLASSES for n in range(2)]:
        place = tmp_path / "images" / split / kind
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(png(10 * CLASSES.index(kind) + number)["bytes"])
    (tmp_path / "images" / "train" / "bee" / "2.png").write_bytes(b"no image")
    data = open_data(f"hf/{tmp_path / 'images'}")
    assert sorted(greys(data.train)) == [0, 1, 10, 11] and data.train.classes == CLASSES
    assert "skipped 1 of 5 images" in capsys.readouterr().err


def test_the_columns_are_the_first_of_their_kind_or_those_named(tmp_path):
    more = [png(200), png(201), png(202)]
    rows = rows_of([1, 2, 3], [0, 1, 0], other=more)
    name = parquet(tmp_path / "bugs", train=rows, test=rows)
    assert greys(open_data(name).train) == [1, 2, 3]
    assert greys(open_data(f"{name}:other").train) == [200, 201, 202]
    assert greys(open_data(f"{name}:other:kind").train) == [200, 201, 202]
    with pytest.raises(UnknownName, match="column 'number' holds no images; those that do: photo, other"):
        open_data(f"{name}:number")
    with pytest.raises(UnknownName, match="column 'photo' holds no classes; those that do: kind"):
        open_data(f"{name}:photo:photo")


def test_without_classes_all_images_are_the_pool(tmp_path):
    data = open_data(parquet(tmp_path / "bugs", train=rows_of([1, 2, 3]), test=rows_of([4])))
    assert greys(data.pool) == [1, 2, 3] and data.train is None and data.test is None
    with pytest.raises(BadData, match="has no labels to judge by"):
        _ = data.judging


def test_hidden_labels_judge_nothing_and_a_split_without_a_test_is_split_always_alike(tmp_path):
    """On the hub a label that is not published is -1."""
    train = rows_of(range(10), [0, 1] * 5)
    hidden = rows_of([90, 91], [-1, -1])
    data = open_data(parquet(tmp_path / "a", train=train, test=hidden, validation=rows_of([50, 51], [0, 1])))
    assert greys(data.test) == [50, 51]
    divided = [open_data(parquet(tmp_path / name, train=train, test=hidden), test_share=0.4) for name in "bc"]
    assert np.bincount(divided[0].test.labels).tolist() == [2, 2] and len(divided[0].train) == 6
    assert greys(divided[0].test) == greys(divided[1].test) and divided[0].pool is divided[0].train
    some = open_data(parquet(tmp_path / "d", train=rows_of([1, 2, 3, 4], [0, 1, -1, 0]), test=rows_of([5, 6], [0, 1])))
    assert greys(some.train) == [1, 2, 4] and greys(some.pool) == [1, 2, 3, 4]


def test_what_does_not_go_together_is_refused(tmp_path):
    name = parquet(tmp_path / "bugs", train=rows_of([1, 2], [0, 1]), test=rows_of([3, 4], [0, 1]))
    with pytest.raises(BadSetting, match="takes no --pool"):
        open_data(name, pool=tmp_path)
    with pytest.raises(BadSetting, match="split already"):
        open_data(name, test_share=0.5)
    with pytest.raises(BadData, match=r"no folder .*nothing"):
        open_data(f"hf/{tmp_path / 'nothing'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="empty is no data set that the library datasets can read"):
        open_data(f"hf/{tmp_path / 'empty'}")
    text = datasets.Dataset.from_dict({"words": ["a", "b"]})
    with pytest.raises(BadData, match="has no column of images; its columns are words"):
        open_data(parquet(tmp_path / "text", train=text))


def test_without_a_network_the_hub_and_the_way_out_are_named(monkeypatch):
    def unreachable(path, **_):
        raise ConnectionError(f"Couldn't reach '{path}' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(LilliputError, match=r"cannot get somebody/bugs .*Couldn't reach.*hf/\./FOLDER"):
        open_data("hf/somebody/bugs")


def test_without_the_library_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **named):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(BadSetting, match=r"needs datasets, .* pip install \"lilliput\[hf\]\""):
        open_data("hf/somebody/bugs")
