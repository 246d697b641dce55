"""Boxes as people have them: both formats, and what is wrong with their files."""

import pytest
import torch
from PIL import Image

from lilliput.detection.boxes import Frame, frame_of, open_boxes
from lilliput.errors import BadData
from tests.detection.conftest import coco, plain, voc


def by_file(folder, size=20, **named):
    """File -> its boxes and classes, of both parts."""
    found = {}
    for part in open_boxes(folder, size, **named):
        for file, boxes, labels in zip(part.files, part.boxes, part.labels, strict=True):
            found[file] = list(zip(boxes.tolist(), [part.classes[label - 1] for label in labels], strict=True))
    return found


def test_boxes_of_voc_lie_in_the_squeezed_image_whatever_size_is_told(three):
    """80 x 40 pixels become 20 x 20; the size is told as it is, as 0 x 0, or of a copy twice as large."""
    expected = [([5.0, 5.0, 10.0, 20.0], "red")]
    for size, scale in (((80, 40), 1), ((0, 0), 1), ((160, 80), 2), ((50, 50), 1)):
        corners = [scale * corner for corner in (20, 10, 40, 40)]
        for name in "abc":
            (three / f"{name}.xml").write_text(voc([(corners, "red")], size))
        assert by_file(three) == dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), expected), size


def test_boxes_of_coco_are_the_same_as_those_of_voc(three, tmp_path):
    for name in "abc":
        (three / f"{name}.xml").write_text(voc([((20, 10, 40, 40), "red"), ((0, 0, 8, 8), "blue")]))
    voc_boxes = by_file(three)
    for name in "abc":
        (three / f"{name}.xml").unlink()
    boxes = [(image, *box) for box in ((1, [20, 10, 20, 30]), (0, [0, 0, 8, 8])) for image in range(3)]
    coco(three / "annotations.json", [(f"{name}.jpg", 80, 40) for name in "abc"], boxes)
    assert by_file(three) == voc_boxes


def test_train_and_test_folders_are_the_split_and_annotations_may_have_a_folder_of_their_own(tmp_path):
    for part, names in (("train", "abc"), ("test", "d")):
        for name in names:
            plain(tmp_path / part / "JPEGImages" / f"{name}.jpg", 40, 40)
            (tmp_path / part / "Annotations").mkdir(exist_ok=True)
            text = voc([((0, 0, 20, 20), "red")], filename=f"C:\\x\\{name}.jpg")
            (tmp_path / part / "Annotations" / f"{name}.xml").write_text(text)
    train, test = open_boxes(tmp_path, 16)
    assert [len(train), len(test)] == [3, 1] and test.files == ["JPEGImages/d.jpg"]


def test_without_a_split_the_same_share_is_drawn_always(tmp_path):
    for number in range(10):
        plain(tmp_path / f"{number}.png", 16, 16)
        (tmp_path / f"{number}.xml").write_text(voc([((0, 0, 8, 8), "red")]))
    (train, test), (_, again) = (open_boxes(tmp_path, 16, test_share=0.3) for _ in range(2))
    assert (len(train), len(test)) == (7, 3) and test.files == again.files
    assert not set(train.files) & set(test.files)


def test_boxes_are_cut_at_the_edges_and_those_without_a_size_are_dropped_and_counted(three, capsys):
    boxes = [((-10, -10, 40, 400), "red"), ((30, 5, 30, 20), "red"), ((40, 20, 20, 30), "red"), ((90, 0, 99, 9), "red")]
    (three / "a.xml").write_text(voc([*boxes, (("x", 0, 9, 9), "red"), (("nan", 0, 9, 9), "red")]))
    for name in "bc":
        (three / f"{name}.xml").write_text(voc([((0, 0, 80, 40), "red")]))
    assert by_file(three)["a.jpg"] == [([0.0, 0.0, 10.0, 20.0], "red")]
    said = "".join(capsys.readouterr().err.split())
    assert "3box(es)withoutasizeintheirimage('a.jpg')" in said and "2box(es)withoutfournumbers('a.xml')" in said


def test_what_is_missing_damaged_or_unreadable_is_named_and_passed_over(three, capsys):
    for name in ("a", "b", "c", "broken"):
        (three / f"{name}.xml").write_text(voc([((0, 0, 9, 9), "red")]))
    (three / "gone.xml").write_text(voc([((0, 0, 9, 9), "red")], filename="../../etc/passwd.jpg"))
    (three / "torn.xml").write_text("<annotation><obj")
    (three / "bomb.xml").write_text('<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>')
    (three / "broken.jpg").write_bytes(b"no image")
    plain(three / "untold.jpg", 9, 9)
    assert set(by_file(three)) == {"a.jpg", "b.jpg", "c.jpg"}
    said = " ".join(capsys.readouterr().err.split())
    for words in ("passwd.jpg", "torn.xml", "bomb.xml", "it defines entities", "broken.jpg", "untold.jpg"):
        assert words in said, words


def test_a_json_that_does_not_fit_together_loses_only_what_does_not(three, capsys):
    good = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 40, 40]}
    crowd = {**good, "iscrowd": 1}
    bad = [{**good, "image_id": 9}, {**good, "category_id": []}, {**good, "bbox": [1, 2, 3]}, 7]
    whole = [{**good, "image_id": image} for image in range(3)]
    files = [*((f"{name}.jpg", 80, 40) for name in "abc"), ("../a.txt", 8, 8)]
    coco(three / "labels.json", files, [*whole, crowd, *bad])
    parts = open_boxes(three, 20)
    aside = {file: flags.tolist() for part in parts for file, flags in zip(part.files, part.aside, strict=True)}
    assert aside == {"a.jpg": [False, True], "b.jpg": [False], "c.jpg": [False]}
    said = " ".join(capsys.readouterr().err.split())
    assert "2 box(es) of no image" in said and "1 box(es) without a class" in said and "'../a.txt'" in said


def test_a_picture_that_a_camera_laid_on_its_side_is_shown_as_its_boxes_were_drawn():
    assert frame_of((40, 80), (80, 40), (40, 80)) == Frame((40, 80), (40, 80), upright=True)
    assert frame_of((80, 40), (80, 40), (40, 80)) == Frame((80, 40), (80, 40), upright=False)
    assert frame_of(None, (80, 40), (40, 80)) == Frame((40, 80), (40, 80), upright=True)


@pytest.mark.parametrize("told", [(80, 40), (40, 80)])
def test_the_pixels_below_a_box_are_its_own_whether_drawn_upright_or_not(tmp_path, told):
    """The left half of the stored picture is white; upright, a quarter turn clockwise, it is the upper half."""
    picture = Image.new("RGB", (80, 40))
    picture.paste((255, 255, 255), (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "abc":
        picture.save(tmp_path / f"{name}.png", exif=exif)
        box = (0, 0, 40, 40)  # in both pictures the white half
        (tmp_path / f"{name}.xml").write_text(voc([(box, "red")], told))
    images, _ = open_boxes(tmp_path, 16)
    left, top, right, bottom = images.boxes[0][0].int().tolist()
    white = images.pixels[0].float().mean(0) > 128
    inside = torch.zeros_like(white)
    inside[top:bottom, left:right] = True
    assert torch.equal(white, inside)


def test_folders_without_boxes_say_what_is_looked_for(three):
    with pytest.raises(BadData, match=r"holds no boxes: neither a \.json as COCO writes it .* convert"):
        open_boxes(three, 16)
    (three / "a.xml").write_text(voc([]))
    with pytest.raises(BadData, match="no box in an image that is there"):
        open_boxes(three, 16)
    for name in ("one.json", "two.json"):
        coco(three / name, [("a.jpg", 80, 40)], [(0, 1, [0, 0, 9, 9])])
    with pytest.raises(BadData, match=r"one\.json and two\.json both tell boxes; leave one"):
        open_boxes(three, 16)
    with pytest.raises(BadData, match="no folder"):
        open_boxes(three / "nowhere", 16)
