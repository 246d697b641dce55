"""Copies, strays and doubted labels that were planted are found, and the page and the table tell them."""

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from lilliput import api
from lilliput.errors import BadData
from lilliput.gallery import copies, doubts, strays
from lilliput.gallery.clean import classes_of
from lilliput.gallery.index import gather, grey
from lilliput.gallery.near import centred, nearest
from tests.gallery.conftest import drawing, drawings


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_the_nearest_in_blocks_are_those_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr("lilliput.gallery.near.BLOCK", 7)
    directions = centred(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)))
    likeness = directions @ directions.T - 9 * torch.eye(30)
    cosines, rows = nearest(directions, 4)
    assert torch.equal(rows, likeness.argsort(1, descending=True)[:, :4])
    torch.testing.assert_close(cosines, likeness.sort(1, descending=True).values[:, :4])
    assert nearest(directions[:3], 4)[1].shape == (3, 2)


def altered(image):
    """The same picture compressed, cropped by a twelfth, mirrored and made darker."""
    compressed = io.BytesIO()
    image.save(compressed, format="jpeg", quality=50)
    width = image.width
    yield Image.open(compressed)
    yield image.crop((2, 1, width - width // 12 + 2, width - width // 12 + 1)).resize(image.size)
    yield ImageOps.mirror(image)
    yield ImageEnhance.Brightness(image).enhance(0.6)


def test_copies_lie_over_one_another_and_other_pictures_do_not():
    draw = np.random.default_rng(0)
    images = [drawing(draw, 96) for _ in range(6)]
    pixels = lambda image: np.asarray(image.convert("RGB")).transpose(2, 0, 1)  # noqa: E731
    plain = torch.from_numpy(grey(np.stack([pixels(image) for image in images]))).float()
    for number, image in enumerate(images):
        others = torch.from_numpy(grey(np.stack([pixels(other) for other in altered(image)]))).float()
        same = copies._laid_over(plain[number].expand(4, -1, -1), others)
        torch.testing.assert_close(same, copies._laid_over(others, plain[number].expand(4, -1, -1)))
        different = copies._laid_over(plain[number].expand(6, -1, -1), plain.roll(1, 0))
        assert same.min() > 0.95 > different.sort().values[:-1].max()  # one of the six is itself


def test_a_plain_picture_is_like_no_other():
    plain = torch.full((2, 32, 32), 90.0)
    assert copies._laid_over(plain, plain).max() < 0.01


def test_equal_files_are_copies_whatever_they_look_like_and_pairs_join_to_groups():
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    pairs = copies.alike(features, np.full((5, 32, 32), 7, np.uint8), ["a", "b", "a", "c", "a"])
    assert [(pair.one, pair.other) for pair in pairs] == [(0, 2), (0, 4)]
    assert copies.groups([*pairs, copies.Pair(1, 3, 1.0)]) == [[0, 2, 4], [1, 3]]
    assert copies.alike(features[:1], np.zeros((1, 32, 32), np.uint8), ["a"]) == []


def test_strangeness_is_the_distance_to_the_tenth_neighbour_of_whitened_features():
    features = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32) * [100, 10, 5, 1, 1, 0.1]
    features[7] = features.mean(0) + np.array([0, 0, 0, 0, 0, 2.0], np.float32)  # far only where little varies
    strange = strays.strangeness(features.astype(np.float32))
    white = np.linalg.inv(np.linalg.cholesky(np.cov(features.T, bias=True))) @ (features - features.mean(0)).T
    distances = np.sort(np.linalg.norm(white.T[:, None] - white.T, axis=2), axis=1)[:, 10]
    np.testing.assert_allclose(strange, distances / torch.from_numpy(distances).median().item(), rtol=1e-3)
    assert strays.strays(strange)[0] == 7
    assert len(strays.strays(strange[:20])) == 0


def test_labels_that_were_changed_are_the_least_likely():
    draw = np.random.default_rng(0)
    truth = np.arange(300) % 3
    features = (np.eye(3, 12)[truth] * 3 + draw.normal(size=(300, 12))).astype(np.float32)
    labels = truth.copy()
    changed = draw.permutation(300)[:15]
    labels[changed] = (truth[changed] + 1) % 3
    doubt = doubts.doubted(features, labels, 3)
    assert len(set(np.argsort(doubt.own)[:15]) & set(changed)) >= 13
    wrong, hard = doubts.wrong_and_hard(doubt, labels)
    assert set(wrong) <= set(np.flatnonzero(doubt.guess != labels)) and not set(wrong) & set(hard)
    assert len(set(wrong) & set(changed)) >= 0.8 * len(wrong) > 0
    assert (doubt.guess[wrong] == truth[wrong]).mean() > 0.8


def test_no_probe_has_seen_the_label_that_it_doubts():
    """Of features that say nothing about the labels, no more than chance is told right, however many there are."""
    features = np.random.default_rng(0).normal(size=(100, 400)).astype(np.float32)
    labels = np.arange(100) % 2
    assert (doubts.doubted(features, labels, 2).guess == labels).mean() < 0.7


@pytest.fixture
def classes(tmp_path):
    """Two classes of drawings, dark and light, thirty each; a copy, a mislabelled one and a broken one among them."""
    folder = tmp_path / "classes"
    for name, factor, seed in (("dark", 0.3, 0), ("light", 1.0, 1)):
        for path in drawings(folder / name, 30, seed=seed).glob("*.png"):
            ImageEnhance.Brightness(Image.open(path)).enhance(factor).save(path)
    Image.open(folder / "dark" / "003.png").save(folder / "dark" / "copy.jpg", quality=70)
    (folder / "light" / "same.png").write_bytes((folder / "light" / "004.png").read_bytes())
    (folder / "light" / "<b>.png").write_bytes(b"\x89PNG broken")
    return folder


def test_the_page_and_the_table_tell_what_was_planted_and_nothing_is_changed(classes, finished_run, tmp_path):
    before = files_of(classes)
    page, table = api.clean(finished_run, classes, tmp_path / "out", labels="folders")
    assert files_of(classes) == before
    rows = rows_of(table)
    copied = {row["file"]: row["of"] for row in rows if row["problem"] == "copies" and row["of"]}
    assert copied["light/same.png"] == "light/004.png" and copied["dark/copy.jpg"] == "dark/003.png"
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64") == len(rows)
    assert "&lt;b&gt;.png" in text and "<b>.png" not in text  # a name is shown, not obeyed
    assert "script" not in text and "http:" not in text and "https:" not in text
    assert {"Copies", "Off the topic", "Likely wrong labels", "Hard images", "Unreadable"} <= {
        part.partition("</h2>")[0] for part in text.split("<h2>")
    }
    page, table = api.clean(finished_run, classes, tmp_path / "out")
    assert {row["problem"] for row in rows_of(table)} <= {"copies", "off_topic"}
    assert "Hard images" not in page.read_text(encoding="utf-8")


def test_a_misspelt_class_of_one_image_is_named_and_costs_nothing(classes, finished_run, tmp_path, capsys):
    (classes / "lihgt").mkdir()
    (classes / "light" / "007.png").rename(classes / "lihgt" / "007.png")
    _, table = api.clean(finished_run, classes, tmp_path / "out", labels="folders")
    assert "class 'lihgt' has 1 image, too few" in capsys.readouterr().err
    assert {"copies"} <= {row["problem"] for row in rows_of(table)}
    assert all(row["of"] != "lihgt" for row in rows_of(table))


def test_classes_are_those_of_folders_of_a_split_or_of_a_table(tmp_path, lens, finished_run):
    for place in ("train/cat/old", "test/cat", "unlabeled", "."):
        drawings(tmp_path / "s" / place, 1)
    named = classes_of(gather(tmp_path / "s", lens), "folders")
    assert named == {"train/cat/old/000.png": "cat", "test/cat/000.png": "cat"}
    (tmp_path / "t.csv").write_text("file,label\n000.png,dog\ntest/cat/000.png,\n")
    assert classes_of(gather(tmp_path / "s", lens), tmp_path / "t.csv") == {"000.png": "dog"}
    with pytest.raises(BadData, match="has no folders of classes"):
        classes_of(gather(tmp_path / "s" / "unlabeled", lens), "folders")
    with pytest.raises(BadData, match="to doubt labels takes two classes of 10 images, and there are 0"):
        api.clean(finished_run, tmp_path / "s", tmp_path / "o", labels="folders")
