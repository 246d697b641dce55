"""Classes from a table of file and label."""

import pytest

from lilliput.data.table import labels_in
from lilliput.errors import BadData

FILES = ["a.png", "b.png", "deep/c.png"]


def table(folder, text):
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,cat\nb.png,dog\n",
        "\ufeffFilename, Class ,by\r\n./a.png,cat,me\r\nb.png,dog,me\r\n",
        "label,file\ncat,a.png\ndog,b.png\n,deep/c.png\n",
        "file,label\na.png,cat\na.png,cat\nb.png,dog\n",
    ],
)
def test_files_get_the_classes_of_their_lines(tmp_path, text):
    named, remarks = labels_in(table(tmp_path, text), FILES)
    assert named == {"a.png": "cat", "b.png": "dog"}
    assert len(remarks) == 1 and "1 of 3 images have no label" in remarks[0]


def test_windows_separators_and_lines_of_no_image_are_told(tmp_path):
    named, remarks = labels_in(table(tmp_path, "file,label\ndeep\\c.png,cat\nz.png,dog\n"), FILES)
    assert named == {"deep/c.png": "cat"}
    assert "1 of its lines name no image of the folder: 'z.png' in line 3 ..." in remarks[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,kind\na.png,cat\n", "needs the columns file and label in its first line; it has 'name', 'kind'"),
        ("", "needs the columns file and label in its first line; it has none"),
        ("file,label\na.png,cat\na.png,dog\n", "says in line 3 that 'a.png' is 'dog', and before that 'cat'"),
        ("file,label\nz.png,cat\n", "gives no image of the folder a label: there is no 'z.png' in line 2"),
        ("file,label\na.png\n", "gives no image of the folder a label; files"),
        (b"file,label\n\xff.png,cat\n", "is no table of text in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_meant_is_told(tmp_path, text, said):
    with pytest.raises(BadData, match=said):
        labels_in(table(tmp_path, text), FILES)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadData, match=r"cannot read the labels .*labels\.csv: No such file"):
        labels_in(tmp_path / "labels.csv", FILES)
