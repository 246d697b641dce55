"""Folders as users have them: labelled or not, tidy or not."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from lilliput.data import leaks
from lilliput.data.tree import names_of
from lilliput.datasets import folder
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.images import decode
from lilliput.system.files import home


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def draw(path, value=0, size=(16, 16)):
    """One image of one grey, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)
    return path


def labelled(root):
    """Three classes: two images of each to train, one to test."""
    for label, name in enumerate(["ant", "bee", "cat"]):
        draw(root / "train" / name / "1.png", 10 * label)
        draw(root / "train" / name / "deep" / "2.png", 10 * label + 1)
        draw(root / "test" / name / "3.png", 10 * label + 2)
    return root


def greys(store):
    return store.images[:, 0, 0, 0].tolist()


def test_images_at_any_depth_are_a_pool_without_labels(root):
    draw(root / "b.png", 1), draw(root / "a" / "x.bmp", 2), draw(root / "a" / "y" / "z.gif", 3)
    data = folder.prepare(path=root)
    assert greys(data.pool) == [2, 3, 1]  # sorted by name
    assert data.train is None and data.test is None and not data.pool.is_labelled
    assert data.pool.manifest["source"] == str(root)


def test_class_folders_give_labels(root):
    data = folder.prepare(path=labelled(root))
    assert data.train.classes == data.test.classes == ["ant", "bee", "cat"]
    assert greys(data.train) == [0, 1, 10, 11, 20, 21] and data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert greys(data.test) == [2, 12, 22] and data.test.labels.tolist() == [0, 1, 2]


def test_without_a_pool_the_training_images_are_it(root):
    data = folder.prepare(path=labelled(root))
    assert greys(data.pool) == greys(data.train)
    assert len(list((home() / "stores").iterdir())) == 2  # and not stored twice


def test_another_folder_can_be_the_pool_whatever_its_layout(root, tmp_path):
    labelled(root)
    draw(tmp_path / "more" / "train" / "x.png", 100), draw(tmp_path / "more" / "other" / "y.png", 200)
    data = folder.prepare(path=root, pool=tmp_path / "more")
    assert greys(data.pool) == [200, 100] and not data.pool.is_labelled and len(data.train) == 6


def test_a_limit_spaces_the_pool_and_leaves_the_labelled_images(root):
    data = folder.prepare(path=labelled(root), limit=3)
    assert greys(data.pool) == [0, 10, 20]
    assert len(data.train) == 6 and len(data.test) == 3
    with pytest.raises(BadSetting, match="limit 0"):
        folder.prepare(path=root, limit=0)


def test_nothing_is_decoded_twice(root, monkeypatch):
    first = folder.prepare(path=labelled(root))

    def never(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "decode", never)
    again = folder.prepare(path=str(root))
    assert again.train.folder == first.train.folder and again.test.digest == first.test.digest


@pytest.mark.parametrize("change", ["content", "name", "more", "less", "time"])
def test_a_change_is_noticed(root, change):
    draw(root / "a.png", 1), draw(root / "b.png", 2)
    before = folder.prepare(path=root).pool
    match change:
        case "content":
            draw(root / "a.png", 3)
        case "name":
            (root / "a.png").rename(root / "c.png")
        case "more":
            draw(root / "c.png", 3)
        case "less":
            (root / "a.png").unlink()
        case "time":
            os.utime(root / "a.png", (1, 1))
    after = folder.prepare(path=root).pool
    assert after.folder != before.folder
    expected = {"content": [3, 2], "name": [2, 1], "more": [1, 2, 3], "less": [2], "time": [1, 2]}
    assert greys(after) == expected[change]
    assert (after.digest == before.digest) == (change == "time")


def test_alike_files_in_different_folders_do_not_share_a_store(tmp_path):
    for value, place in enumerate(["one", "two"]):
        os.utime(draw(tmp_path / place / "same" / "a.bmp", value), (1, 1))
    one, two = (folder.prepare(path=tmp_path / place / "same").pool for place in ("one", "two"))
    assert greys(one) == [0] and greys(two) == [1]


def test_sizes_do_not_share_a_store(root):
    draw(root / "a.png", 9, (64, 64))
    assert [folder.prepare(path=root, image_size=size).pool.image_size for size in (32, 16, None)] == [32, 16, 64]


@pytest.mark.parametrize(("sides", "expected"), [([32], 32), ([300], 96), ([40, 50, 300], 40), ([3], 8)])
def test_without_a_size_it_is_96_or_the_images_own(root, sides, expected):
    for number, side in enumerate(sides):
        draw(root / f"{number}.png", 1, (side, 2 * side))
    assert folder.prepare(path=root).pool.image_size == expected


def test_one_icon_among_photographs_does_not_make_them_all_small(root):
    draw(root / "icon.png", 1, (4, 4))
    for number in range(30):
        draw(root / f"{number}.png", 1, (80, 70))
    assert folder.prepare(path=root).pool.image_size == 70


def test_all_parts_have_one_size(root, tmp_path):
    labelled(root)
    draw(tmp_path / "more" / "x.png", 1, (200, 200))
    data = folder.prepare(path=root, pool=tmp_path / "more")
    assert data.pool.image_size == data.train.image_size == data.test.image_size == 16


def test_what_is_no_image_is_passed_over(root):
    draw(root / "good.png", 5), draw(root / ".hidden.png"), draw(root / ".git" / "x.png")
    (root / "notes.txt").write_text("hello"), (root / "archive.zip").write_bytes(b"PK")
    (root / "folder.png").mkdir()
    data = folder.prepare(path=root)
    assert greys(data.pool) == [5] and data.pool.manifest["skipped"] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_devices_are_never_opened(root):
    """Opening a pipe waits until somebody writes to it: for ever."""
    draw(root / "good.png", 5)
    os.mkfifo(root / "pipe.jpg")
    (root / "endless.png").symlink_to("/dev/zero")
    start = time.monotonic()
    assert greys(folder.prepare(path=root).pool) == [5]
    assert time.monotonic() - start < 5


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_to_files_count_and_loops_of_links_end(root, tmp_path):
    draw(root / "a" / "good.png", 5)
    (root / "a" / "up").symlink_to(root)
    (root / "b.png").symlink_to(draw(tmp_path / "elsewhere.png", 6))
    (root / "c.png").symlink_to(root / "gone.png")
    (root / "d.png").symlink_to(root / "d.png")
    assert greys(folder.prepare(path=root).pool) == [5, 6]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_class_folders_may_be_links(root, tmp_path):
    labelled(tmp_path / "real")
    for part in ("train", "test"):
        (root / part).mkdir()
        for name in ("ant", "cat"):
            (root / part / name).symlink_to(tmp_path / "real" / part / name)
    data = folder.prepare(path=root)
    assert data.train.classes == ["ant", "cat"] and greys(data.train) == [0, 1, 20, 21]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("to", [".", "..", "cat", "cat/deep"])
def test_class_folders_that_share_images_are_refused(root, to):
    labelled(root)
    draw(root / "train" / "cat" / "deep" / "x.png", 3)
    (root / "train" / "dog").symlink_to(root / "train" / to)
    with pytest.raises(BadData, match=r"class folder .*dog.* hold the same images; remove the link"):
        folder.prepare(path=root)


def test_damaged_files_among_many_are_skipped_counted_and_named(root, capsys):
    for number in range(20):
        draw(root / f"{number:02}.png", number)
    (root / "03.png").write_bytes((root / "03.png").read_bytes()[:50])
    (root / "07.png").write_bytes(b"")
    data = folder.prepare(path=root)
    assert greys(data.pool) == [number for number in range(20) if number not in (3, 7)]
    assert [entry["file"] for entry in data.pool.manifest["skipped"]] == ["03.png", "07.png"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "skipped 2 of 20" in said and "03.png" in said


def test_labels_stay_with_their_images_when_some_are_skipped(root):
    labelled(root)
    (root / "train" / "ant" / "1.png").write_bytes(b"")
    data = folder.prepare(path=root)
    assert greys(data.train) == [1, 10, 11, 20, 21] and data.train.labels.tolist() == [0, 1, 1, 2, 2]


def test_a_class_whose_images_are_all_damaged_is_named(root):
    labelled(root)
    (root / "test" / "bee" / "3.png").write_bytes(b"")
    with pytest.raises(BadData, match=r"'bee'.*test"):
        folder.prepare(path=root)


def test_one_image_is_enough_for_a_store(root):
    draw(root / "only.png", 5)
    assert len(folder.prepare(path=root).pool) == 1


def test_strange_names_do_no_harm(root):
    names = ["é ü.png", "a\nb.png", "[bold]x.png", "100%.png", "'quoted'.png"]
    if os.name == "posix":
        names.append(os.fsdecode(b"\xff\xfe.png"))
    for name in names:
        draw(root / name, 7)
        (root / f"torn {name}").write_bytes(b"")
    data = folder.prepare(path=root)
    assert len(data.pool) == len(names) and len(data.pool.manifest["skipped"]) == len(names)
    assert folder.prepare(path=root).pool.folder == data.pool.folder


def test_the_class_folders_without_images_are_no_classes(root):
    labelled(root)
    (root / "train" / "empty").mkdir(), (root / "test" / ".cache").mkdir()
    assert folder.prepare(path=root).train.classes == ["ant", "bee", "cat"]


def never_decode(*_):
    raise AssertionError("decoded before the mistake was told")


def test_a_class_only_to_test_is_named_before_any_decoding(root, monkeypatch):
    draw(labelled(root) / "test" / "dog" / "x.png")
    monkeypatch.setattr(decode, "decode", never_decode)
    with pytest.raises(BadData, match=r"'dog'.*test but not in .*train"):
        folder.prepare(path=root)


def test_a_class_without_test_images_is_named_before_any_decoding(root, monkeypatch):
    draw(labelled(root) / "train" / "dog" / "x.png")
    (root / "test" / "dog").mkdir()
    monkeypatch.setattr(decode, "decode", never_decode)
    with pytest.raises(BadData, match=r"'dog'.*train but not in .*test.*judged"):
        folder.prepare(path=root)


@pytest.mark.parametrize(("there", "absent"), [("train", "test"), ("test", "train")])
def test_half_a_layout_is_told_with_the_way_out(root, there, absent):
    draw(root / there / "ant" / "x.png")
    with pytest.raises(BadData, match=f"has {there}/ but no {absent}/"):
        folder.prepare(path=root)
    assert len(folder.prepare(path=root / there).pool) == 1  # as the message advises


def test_training_images_without_class_folders_are_told(root):
    draw(root / "train" / "x.png"), draw(root / "test" / "y.png")
    with pytest.raises(BadData, match=r"directly in .*train have no class"):
        folder.prepare(path=root)


def test_loose_images_beside_class_folders_are_passed_over_aloud(root, capsys):
    draw(labelled(root) / "train" / "overview.png")
    assert len(folder.prepare(path=root).train) == 6
    assert "overview.png" in capsys.readouterr().err


def test_a_pool_for_a_folder_without_labels_is_refused(root, tmp_path):
    draw(root / "a.png"), draw(tmp_path / "more" / "x.png")
    with pytest.raises(BadData, match="it is the pool already"):
        folder.prepare(path=root, pool=tmp_path / "more")


def test_no_images_names_the_folder_and_what_was_passed_over(root):
    (root / "a.txt").write_text("")
    with pytest.raises(BadData, match=rf"no images in {root}, at any depth; passed over: 1 not images \(\.txt\)"):
        folder.prepare(path=root)


def test_a_missing_folder_is_told(tmp_path, root):
    with pytest.raises(BadData, match="nowhere"):
        folder.prepare(path=tmp_path / "nowhere")
    with pytest.raises(BadData, match="nowhere"):
        folder.prepare(path=labelled(root), pool=tmp_path / "nowhere")


def test_a_file_instead_of_a_folder_is_told(root):
    with pytest.raises(BadData, match=r"a\.png is no folder"):
        folder.prepare(path=draw(root / "a.png"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_folder_is_told_not_passed_over(root):
    draw(root / "a.png"), (root / "closed").mkdir(mode=0)
    with pytest.raises(BadData, match="closed"):
        folder.prepare(path=root)


def test_a_folder_that_cannot_be_listed_is_told(root, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    draw(root / "a.png")
    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(BadData, match="Permission denied"):
        folder.prepare(path=root)


def test_a_home_that_cannot_be_written_names_the_way_out(root, tmp_path, monkeypatch):
    draw(root / "a.png")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "file"))
    with pytest.raises(LilliputError, match=r"\$LILLIPUT_HOME"):
        folder.prepare(path=root)


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("training", "testing"), ("train_dir", "test_dir"), ("TRAIN", "val"), ("train", "Validation")],
)
def test_a_split_is_known_by_what_people_call_it(root, train, test):
    labelled(root)
    (root / "train").rename(root / "x"), (root / "test").rename(root / "y")
    (root / "x").rename(root / train), (root / "y").rename(root / test)
    data = folder.prepare(path=root)
    assert greys(data.train) == [0, 1, 10, 11, 20, 21] and greys(data.test) == [2, 12, 22]


def test_validation_images_judge_only_where_there_is_no_other_test_and_that_is_said(root, capsys):
    draw(labelled(root) / "val" / "ant" / "9.png", 99)
    assert greys(folder.prepare(path=root).test) == [2, 12, 22]
    assert "val: not used" in capsys.readouterr().err


def test_two_folders_of_one_kind_are_refused(root):
    draw(labelled(root) / "training" / "ant" / "9.png", 99)
    with pytest.raises(BadData, match=r"train.* and train.* are of one kind"):
        folder.prepare(path=root)


def test_unlabelled_images_beside_the_split_join_the_pool(root, capsys):
    draw(labelled(root) / "unlabeled" / "deep" / "x.png", 77)
    data = folder.prepare(path=root)
    assert greys(data.pool) == [0, 1, 10, 11, 20, 21, 77] and not data.pool.is_labelled and len(data.train) == 6
    assert "unlabeled: 1 images without labels join the pool" in capsys.readouterr().err
    assert names_of(data.pool)[-1] == "unlabeled/deep/x.png"


def classes_alone(root, each=10):
    for label, name in enumerate(["ant", "bee", "cat"]):
        for number in range(each):
            draw(root / name / f"{number}.png", each * label + number)
    return root


def test_folders_of_classes_alone_are_split_by_a_share(root, capsys):
    data = folder.prepare(path=classes_alone(root), test_share=0.3)
    assert np.bincount(data.test.labels).tolist() == [3, 3, 3] and len(data.train) == 21
    assert data.pool is data.train  # what judges is nothing to learn from
    assert "30 images in 3 classes, 21 to learn from and 9 to judge by (30% of each class)" in capsys.readouterr().err
    assert len(folder.prepare(path=root, test_share=0.3, limit=4).pool) == 4
    names = leaks.names(data.test, range(9))
    assert all(name[1:4] == data.test.classes[label] for name, label in zip(names, data.test.labels, strict=True))


def test_they_are_split_by_themselves_only_where_labels_are_needed_and_that_is_said(root, capsys):
    classes_alone(root)
    assert folder.prepare(path=root).train is None and len(folder.prepare(path=root).pool) == 30
    assert "no split" not in capsys.readouterr().err
    data = folder.prepare(path=root, judging=True)
    assert len(data.test) == 6
    said = capsys.readouterr().err
    assert "has no split: its 3 folders are taken for classes (ant, bee, cat); --test-share sets the split" in said
    draw(root / "loose.png")
    assert folder.prepare(path=root, judging=True).train is None  # holidays by year, not classes


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_is_between_none_and_all(root, share):
    with pytest.raises(BadSetting, match=f"test_share {share} is not between 0 and 1"):
        folder.prepare(path=classes_alone(root), test_share=share)


def test_a_share_of_what_is_split_already_is_refused(root):
    with pytest.raises(BadSetting, match=r"is split already, into train and test: no test_share"):
        folder.prepare(path=labelled(root), test_share=0.2)


def test_a_table_gives_a_flat_folder_its_classes(root, tmp_path, capsys):
    lines = ["file,label"]
    for number in range(20):
        draw(root / f"{number:02}.png", number)
        lines += [f"{number:02}.png,{'even' if number % 2 == 0 else 'odd'}"] if number < 16 else []
    (table := tmp_path / "labels.csv").write_text("\n".join(lines))
    data = folder.prepare(path=root, labels=table)
    assert data.test.classes == ["even", "odd"] and np.bincount(data.test.labels).tolist() == [2, 2]
    for images in (data.train, data.test):
        assert [label == grey % 2 for label, grey in zip(images.labels, greys(images), strict=True)]
    assert sorted(greys(data.pool)) == sorted([*greys(data.train), 16, 17, 18, 19])
    assert "4 of 20 images have no label" in capsys.readouterr().err
    assert leaks.names(data.train, [0]) == [repr(f"{greys(data.train)[0]:02}.png")]
    table.write_text("\n".join(lines).replace("15.png,odd", "15.png,even"))
    assert np.bincount(folder.prepare(path=root, labels=table).train.labels).tolist() == [7, 6]


def test_a_pool_goes_with_folders_of_classes_too(root, tmp_path):
    draw(tmp_path / "more" / "x.png", 200)
    data = folder.prepare(path=classes_alone(root), pool=tmp_path / "more", judging=True)
    assert greys(data.pool) == [200] and len(data.test) == 6


def test_one_class_or_a_class_on_one_side_judges_nothing(root):
    for number in range(4):
        draw(root / "one" / "only" / f"{number}.png", number)
    with pytest.raises(BadData, match=r"one class, 'only'"):
        folder.prepare(path=root / "one", test_share=0.5).judging  # noqa: B018
    data = folder.prepare(path=labelled(root / "three"))
    with pytest.raises(BadData, match=r"class 'ant' is among the test images alone"):
        data._replace(train=data.train.take(slice(2, None))).judging  # noqa: B018
    with pytest.raises(BadData, match=r"class 'cat' is among the training images alone"):
        data._replace(test=data.test.take([0, 1])).judging  # noqa: B018
