"""Which images lie below a folder, in which classes."""

import pytest
from PIL import Image

from lilliput import catalog
from lilliput.data.tree import Part, images_below, key_of, names_of, parts_of
from lilliput.data.walk import File, Walk
from lilliput.errors import BadData


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)


@pytest.fixture
def root(tmp_path):
    for name in ("train/ant/2.png", "train/ant/deep/1.png", "train/bee/3.png", "test/ant/4.png", "test/bee/5.png"):
        draw(tmp_path / "root" / name)
    return tmp_path / "root"


def test_images_are_listed_by_name_at_any_depth_without_hidden_ones(root):
    draw(root / ".hidden" / "6.png"), draw(root / ".7.png"), (root / "notes.txt").touch()
    names = [file.name for file in images_below(root, Walk())]
    assert names == ["test/ant/4.png", "test/bee/5.png", "train/ant/2.png", "train/ant/deep/1.png", "train/bee/3.png"]
    (empty := root.parent / "empty").mkdir()
    with pytest.raises(BadData, match="no images in"):
        images_below(empty, Walk())


def test_labels_are_the_numbers_of_the_first_folders(root):
    pool, train, test = parts_of(root, Walk())
    assert pool == train._replace(classes=None)
    assert train.classes == test.classes == ["ant", "bee"]
    assert train.labels == [0, 0, 1] and test.labels == [0, 1]
    assert parts_of(root / "train", Walk())[1:] == (None, None)
    assert parts_of(root / "train", Walk(), classed=True).train == train


def test_a_part_is_limited_by_taking_files_at_equal_distances(tmp_path):
    part = Part(tmp_path, [File(f"{number}.png", 1, 1) for number in range(10)])
    assert [file.name for file in part.limited(3).files] == ["0.png", "3.png", "6.png"]
    assert part.limited(None) == part.limited(99) == part


def test_a_key_holds_what_the_pixels_and_labels_depend_on(tmp_path):
    part = Part(tmp_path, [File("a/1.png", 5, 6)], ["a"])
    changes = (
        key_of(part, 33),
        key_of(part._replace(classes=None), 32),
        key_of(part._replace(files=[File("a/1.png", 5, 7)]), 32),
    )
    assert key_of(part, 32) == [str(tmp_path), [("a/1.png", 5, 6)], ["a"], 32]
    assert all(key != key_of(part, 32) for key in changes)


def test_the_rows_of_a_store_have_the_names_of_its_files_until_the_folder_changes(root):
    (root / "train" / "ant" / "0.png").write_text("damaged")
    data = catalog.dataset("folder")(path=root)
    assert names_of(data.train) == ["ant/2.png", "ant/deep/1.png", "bee/3.png"]
    draw(root / "train" / "ant" / "9.png")
    assert names_of(data.train) is None and names_of(data.test) == ["ant/4.png", "bee/5.png"]
