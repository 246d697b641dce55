"""The index of a tar: what is an image in it and where, and tars that were made to do harm."""

import io
import shutil
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from lilliput.data import shards
from lilliput.data.shards import indexed, read_member, tar_of
from lilliput.data.shelf import Shelf
from lilliput.errors import BadData, Unreadable
from lilliput.system.locks import has_locks
from tests.data.conftest import add, packed, png, shard_of


def read_index(path):
    with path.open("rb") as file:
        return shards.read_index(file, str(path))


def special(name, kind, **values):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def test_an_index_says_where_each_image_lies_and_how_large_it_is(tmp_path):
    contents = [png(seed, size=10 + seed) for seed in range(3)]
    path = packed(tmp_path / "a.tar", *((f"deep/{n}.png", content) for n, content in enumerate(contents)))
    index = read_index(path)
    assert index.names == ["deep/0.png", "deep/1.png", "deep/2.png"] and index.sides == [10, 11, 12]
    with path.open("rb") as file:
        assert [read_member(file, *place) for place in zip(index.offsets, index.sizes, strict=True)] == contents


def test_labels_and_texts_are_no_images_and_a_torn_image_is_named(tmp_path):
    members = [("1.png", png(1)), ("1.cls", b"7"), ("1.json", b"{}"), ("2.png", b"no image"), ("3.png", b"")]
    index = read_index(packed(tmp_path / "a.tar", *members))
    assert index.names == ["1.png"] and index.others == {".cls": 1, ".json": 1}
    assert index.unreadable == {"2.png": "no image that Pillow knows", "3.png": "empty"}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_is_read(tmp_path, format):
    name = ("d" * 60 + "/") * (1 if format == tarfile.USTAR_FORMAT else 4) + "ä.png"
    path = packed(tmp_path / "a.tar", (name, png(1)), ("2.png", png(2)), format=format)
    assert read_index(path).names == [name, "2.png"]


def test_links_devices_and_folders_are_passed_over_and_names_lead_nowhere(tmp_path):
    """Nothing is ever written under a member's name, so an absolute one or one that climbs is a name like another."""
    members = [
        (special("link.png", tarfile.SYMTYPE, linkname="/etc/passwd"), None),
        (special("hard.png", tarfile.LNKTYPE, linkname="1.png"), None),
        (special("pipe.png", tarfile.FIFOTYPE), None),
        (special("folder", tarfile.DIRTYPE), None),
        ("/etc/1.png", png(1)),
        ("../../2.png", png(2)),
    ]
    index = read_index(packed(tmp_path / "a.tar", *members))
    assert index.names == ["/etc/1.png", "../../2.png"]
    assert set(index.unreadable) == {"link.png", "hard.png", "pipe.png"} and index.others == {"no regular files": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path):
    for kind in ("gz", "bz2", "xz"):
        with tarfile.open(tmp_path / f"{kind}.tar", f"w:{kind}") as tar:
            add(tar, "1.png", png(1))
        with pytest.raises(BadData, match="unpack it: shards are plain"):
            read_index(tmp_path / f"{kind}.tar")


def test_a_tar_that_is_cut_off_anywhere_is_refused(tmp_path):
    whole = packed(tmp_path / "a.tar", ("1.png", png(1)), ("2.png", png(2, size=40)))
    content, index = whole.read_bytes(), read_index(whole)
    end = index.offsets[1] + -(-index.sizes[1] // 512) * 512
    cut = tmp_path / "cut.tar"
    for length in (0, 100, 700, index.offsets[1] - 512, index.offsets[1], end - 600, end, end + 100):
        cut.write_bytes(content[:length])
        with pytest.raises(BadData):
            read_index(cut)
    cut.write_bytes(content[: end + 512])
    assert read_index(cut) == index


def test_a_damaged_header_is_no_end(tmp_path):
    """tarfile takes a header with a wrong sum, after the first, for the end of the archive."""
    path = packed(tmp_path / "a.tar", ("1.png", png(1)), ("2.png", png(2)), ("3.png", png(3)))
    content = bytearray(path.read_bytes())
    content[read_index(path).offsets[1] - 512] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadData, match="damaged header"):
        read_index(path)


def test_a_member_that_claims_more_than_there_is_reads_nothing(tmp_path):
    info = tarfile.TarInfo("huge.png")
    info.size = 1 << 40
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + png(1) + bytes(2048))
    with pytest.raises(BadData, match="ends within huge"):
        read_index(path)


def test_a_header_that_is_a_gigabyte_long_is_not_read(tmp_path):
    """The file is one with a hole, so it costs a disk nothing; `tarfile` alone would read all of it."""
    info = special("x", tarfile.XHDTYPE, size=1 << 30)
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT))
    with path.open("r+b") as file:
        file.truncate(1 << 31)
    with pytest.raises(BadData, match="a header of 1073741824 bytes"):
        read_index(path)


def test_an_image_of_more_than_the_limit_is_passed_over_unread(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.tar", ("1.png", png(1)), ("2.png", png(2, size=64)))
    monkeypatch.setattr(shards, "MOST_BYTES", len(png(1)))
    assert read_index(path).names == ["1.png"]


def test_a_sparse_member_is_refused(tmp_path):
    info = special("1.png", tarfile.GNUTYPE_SPARSE, size=512)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"00000001000\0"  # the real size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(512 + 1024))
    with pytest.raises(BadData):
        read_index(tmp_path / "a.tar")


def test_what_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    for content in (png(1), b"", bytes(10240), np.random.default_rng(0).bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(BadData):
            read_index(path)
    with pytest.raises(Unreadable, match="No such file"):
        tar_of(str(tmp_path / "none.tar"))


def test_random_damage_is_refused_or_changes_nothing_else(tmp_path):
    """Whatever byte is another, the images that an index names lie within the file."""
    path = shard_of(tmp_path / "a.tar", range(4))
    content, draw = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        harmed = bytearray(content)
        for place in draw.integers(0, len(content), 3):
            harmed[place] = draw.integers(0, 256)
        path.write_bytes(harmed)
        try:
            index = read_index(path)
        except BadData:
            continue
        assert all(o >= 0 and o + s <= len(content) for o, s in zip(index.offsets, index.sizes, strict=True))


def test_an_index_is_kept_by_the_identity_of_its_shard(tmp_path, monkeypatch):
    path = shard_of(tmp_path / "a.tar", range(3))
    tar, opened = tar_of(str(path)), Shelf(0).opened
    index = indexed(tar, opened)
    assert tar._replace(state=(tar.state[0], tar.state[1] + 1)).folder != tar.folder
    with monkeypatch.context() as patch:
        patch.setattr(shards, "read_index", None)
        assert indexed(tar, opened) == index
    (tar.folder / "index.json").write_text("{}")
    assert indexed(tar, opened) == index  # a torn index is made anew


@pytest.mark.skipif(not has_locks(), reason="this system has no locks")
def test_of_two_that_index_a_shard_together_one_reads_it(tmp_path, monkeypatch):
    """Locks keep threads apart as they do processes."""
    tar, met, reads = tar_of(str(shard_of(tmp_path / "a.tar", range(3)))), threading.Barrier(2, timeout=10), []
    plainly = shards.read_index

    @contextmanager
    def opened(tar):
        met.wait()
        with open(tar.source, "rb") as file:
            yield file

    monkeypatch.setattr(shards, "read_index", lambda *of: reads.append(1) or plainly(*of))
    with ThreadPoolExecutor(2) as crew:
        one, other = crew.map(lambda _: indexed(tar, opened), range(2))
    assert one == other and len(reads) == 1


def test_the_digest_is_of_names_and_sizes(tmp_path):
    one = read_index(shard_of(tmp_path / "a.tar", range(3)))
    shutil.copy(tmp_path / "a.tar", tmp_path / "b.tar")
    assert read_index(tmp_path / "b.tar").digest == one.digest
    assert read_index(shard_of(tmp_path / "c.tar", range(1, 4))).digest != one.digest


def test_an_image_is_read_as_pillow_wrote_it(tmp_path):
    path = shard_of(tmp_path / "a.tar", [5])
    index = read_index(path)
    with path.open("rb") as file:
        content = read_member(file, index.offsets[0], index.sizes[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(Image.open(io.BytesIO(png(5)))))
