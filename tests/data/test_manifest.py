"""The manifest: what a store's digest depends on, and how a torn one is told."""

import hashlib

import numpy as np
import pytest

from lilliput.data import manifest
from lilliput.data.manifest import fingerprint
from lilliput.data.store import open_store
from lilliput.errors import BadData
from lilliput.system.records import read_json, write_json
from tests.data.conftest import noise, written


def test_the_manifest_says_what_is_in_it(tmp_path):
    manifest = written(tmp_path / "s", noise(3), split="train", source="here").manifest
    expected = {"name": "x", "split": "train", "source": "here", "image_size": 8, "count": 3, "classes": None}
    assert expected.items() <= manifest.items()
    assert manifest["skipped"] == []


def test_the_digest_depends_on_content_alone(tmp_path):
    one = written(tmp_path / "one", noise(4), labels=[0, 1, 0, 1])
    same = written(tmp_path / "two", noise(4), labels=[0, 1, 0, 1], name="y")
    other_pixels = written(tmp_path / "three", noise(4, seed=1), labels=[0, 1, 0, 1])
    other_labels = written(tmp_path / "four", noise(4), labels=[0, 1, 1, 1])
    no_labels = written(tmp_path / "five", noise(4))
    assert one.digest == same.digest
    assert len({one.digest, other_pixels.digest, other_labels.digest, no_labels.digest}) == 4


def test_the_digest_does_not_depend_on_how_it_is_read(tmp_path, monkeypatch):
    whole = written(tmp_path / "whole", noise(5))
    monkeypatch.setattr(manifest, "CHUNK_BYTES", 400)  # two images
    assert written(tmp_path / "chunks", noise(5)).digest == whole.digest
    by_hand = hashlib.sha256(b"images uint8 (5, 3, 8, 8)" + noise(5).tobytes())
    assert whole.digest == by_hand.hexdigest()


def test_a_torn_store_is_refused_by_name(tmp_path):
    folder = written(tmp_path / "s", noise(4), labels=[0, 0, 0, 0]).folder
    images = folder / "images.npy"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    with pytest.raises(BadData, match="torn"):
        open_store(folder)
    np.save(images, noise(3))
    with pytest.raises(BadData, match="torn"):
        open_store(folder)
    images.unlink()
    with pytest.raises(BadData, match="torn"):
        open_store(folder)
    images.write_bytes(whole)
    open_store(folder)
    (folder / "manifest.json").write_text('{"format": 1, ')
    with pytest.raises(BadData, match="torn"):
        open_store(folder)


def test_another_format_is_refused(tmp_path):
    folder = written(tmp_path / "s", noise(1)).folder
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "format": 0})
    with pytest.raises(BadData, match="format 0"):
        open_store(folder)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("skipped", [1], "its skipped is"),
        ("skipped", [{"file": "a.png"}], "its reason is None"),
        ("skipped", [{"file": 1, "reason": "torn"}], "its file is 1"),
        ("image_size", "x", "its image_size is 'x'"),
        ("format", True, "its format is True"),
        ("count", 3, "2 images of 8 px, not 3 of 8 px"),
        ("image_size", 16, "2 images of 8 px, not 2 of 16 px"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused(tmp_path, field, value, why):
    folder = written(tmp_path / "s", noise(3), give_up={1: {"file": "b.png", "reason": "torn"}}).folder
    assert len(open_store(folder)) == 2
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), field: value})
    with pytest.raises(BadData, match=why):
        open_store(folder)


def test_a_fingerprint_tells_keys_apart():
    assert fingerprint(["a", 1]) == fingerprint(["a", 1])
    assert len({fingerprint(key) for key in (["a", 1], ["a", "1"], ["a1"], ["a", 1, None])}) == 4
