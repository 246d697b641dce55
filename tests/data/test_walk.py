"""What is taken of a folder and what is passed over: images by content, with a count for each reason."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from lilliput.data.walk import Walk, is_ours
from lilliput.datasets import folder
from lilliput.errors import BadData
from lilliput.images import decode

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


def draw(path, kind=None, size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    return path


def taken(root):
    walk = Walk()
    return [file.name for file in walk.images(root)], walk.told()


def test_every_format_that_is_read_is_taken_under_any_of_its_names(tmp_path):
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "ppm": "PPM", "avif": "AVIF", "jp2": "JPEG2000", "JPG": "JPEG"}
    kinds |= {"heic": "HEIF"}
    decode.formats()  # which knows the plug-in for HEIF
    kinds = {extension: kind for extension, kind in kinds.items() if kind in Image.SAVE}  # AVIF since Pillow 11.3
    for extension, kind in kinds.items():
        draw(tmp_path / f"image.{extension}", kind)
    draw(tmp_path / "IMG_0001", "JPEG"), draw(tmp_path / "thumb.dat", "PNG")
    assert sorted(taken(tmp_path)[0]) == sorted(["IMG_0001", "thumb.dat", *(f"image.{name}" for name in kinds)])
    assert taken(tmp_path)[1] == ""
    assert len(folder.prepare(path=tmp_path, image_size=16).pool) == len(kinds) + 2


def test_what_is_passed_over_is_counted_by_reason(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / ".hidden.png"), draw(tmp_path / ".git" / "x.png"), draw(tmp_path / "@eaDir" / "thumb.jpg")
    draw(tmp_path / "IMG.NEF", "TIFF")
    (tmp_path / "notes.txt").write_text("hello"), (tmp_path / "more.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    assert taken(tmp_path) == (
        ["a.png"],
        "passed over: 1 folder of thumbnails or waste, 2 hidden, 1 raw file of cameras, "
        "3 not images (.txt, no extension)",
    )


def test_heic_without_its_plug_in_is_told_with_the_plug_in(tmp_path, monkeypatch):
    draw(tmp_path / "a.png"), (tmp_path / "IMG_1.HEIC").write_bytes(b"some")
    monkeypatch.setattr(decode, "formats", lambda: ("PNG",))
    assert taken(tmp_path) == (["a.png"], "passed over: 1 .heic, which wants the plug-in pillow-heif")


@links
def test_links_to_folders_are_followed_to_every_place_once(tmp_path):
    draw(tmp_path / "elsewhere" / "x.png"), draw(tmp_path / "photos" / "own" / "y.png")
    for name in ("more", "again"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "a link to own").symlink_to(tmp_path / "photos" / "own")
    (tmp_path / "photos" / "own" / "up").symlink_to(tmp_path)
    assert taken(tmp_path / "photos") == (
        ["again/x.png", "own/y.png"],  # a folder goes by its own name, and not by a link's that sorts before
        "passed over: 3 links to folders that are there already",
    )


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        ({"run.json", "log.jsonl", "figure.png"}, True),
        ({"run.json", "encoder_005.safetensors"}, True),
        ({"study.json", "cells"}, True),
        ({"manifest.json", "images.npy"}, True),
        ({"run.json", "photo.png"}, False),
        ({"manifest.json", "icon.png"}, False),
        (set(), False),
    ],
)
def test_folders_of_our_own_are_known_by_two_files(names, ours):
    assert is_ours(names) is ours


def test_our_own_results_are_no_photographs(tmp_path):
    """A study that lies in the folder of its images changes nothing of what it learns from."""
    draw(tmp_path / "a.png")
    before = folder.prepare(path=tmp_path, image_size=16).pool
    study = tmp_path / "runs" / "study-x"
    draw(study / "figure1.png"), (study / "study.json").write_text("{}"), (study / "cells").mkdir()
    assert folder.prepare(path=tmp_path, image_size=16).pool.digest == before.digest
    assert taken(tmp_path)[1] == "passed over: 1 folder of Lilliput's own"
    with pytest.raises(BadData, match=r"study-x is a folder of Lilliput's own"):
        folder.prepare(path=study)


def test_a_file_is_an_image_by_how_it_begins(tmp_path):
    (tmp_path / "b").write_bytes(b"\x89PNG and no more")
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "EPS")  # no format of ours: to read it starts Ghostscript
    (tmp_path / "c.png").write_bytes(content.getvalue())
    assert not decode.is_image(tmp_path / "b") and not decode.is_image(tmp_path / "c.png")
