"""Trees of files from archives in which nothing need be true; test_stl10.py has those of few known files."""

import io
import stat
import struct
import tarfile
import zipfile

import pytest

from lilliput.data.archive import unpack_tree
from lilliput.errors import BadData, LilliputError

ROOM = 1 << 20


@pytest.fixture
def place(tmp_path):
    return tmp_path / "outside" / "place"


def tarred(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name, content=b"", kind=tarfile.REGTYPE, target=""):
    about = tarfile.TarInfo(name)
    about.type, about.size, about.linkname = kind, len(content), target
    return about, content


def zipped(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


STRANGE = ["../evil", "a/../../evil", "/tmp/lilliput-evil", "C:/evil", "a\\..\\evil"]


def test_a_tree_keeps_its_folders_and_files_outside_land_nowhere(tmp_path, place):
    wanted = {"a/1": b"one", "a/b/2": b"two", "3": b"three"}
    names = [*STRANGE, *wanted]
    for archive in (
        tarred(tmp_path / "t.tgz", *(member(name, wanted.get(name, b"evil")) for name in names)),
        zipped(tmp_path / "t.zip", *((name, wanted.get(name, b"evil")) for name in names)),
    ):
        unpack_tree(archive, place, most_bytes=ROOM)
        assert {name: (place / name).read_bytes() for name in below(place)} == wanted
        assert below(place.parent) == {f"place/{name}" for name in wanted} and archive.exists()


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
def test_links_devices_and_pipes_of_a_tar_are_never_made_nor_followed(tmp_path, place, kind):
    (tmp_path / "precious").write_bytes(b"precious")
    link = member("a", kind=getattr(tarfile, kind), target=str(tmp_path / "precious"))
    unpack_tree(tarred(tmp_path / "t.tgz", link, member("a", b"mine")), place, most_bytes=ROOM)
    assert not (place / "a").is_symlink() and (place / "a").read_bytes() == b"mine"
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_link_in_a_zip_is_a_file_that_holds_its_words(tmp_path, place):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    unpack_tree(zipped(tmp_path / "t.zip", (link, b"/etc/passwd")), place, most_bytes=ROOM)
    assert not (place / "link").is_symlink() and (place / "link").read_bytes() == b"/etc/passwd"


@pytest.mark.parametrize("pack", ["tgz", "zip"])
def test_what_unpacks_to_more_than_it_should_is_refused_before_it_is_written(tmp_path, place, pack):
    """A bomb of 8 MiB of zeros, and one of very many empty files."""
    for number, contents in enumerate([{"zeros": bytes(8 << 20)}, {f"{n}": b"" for n in range(ROOM // 512 + 1)}]):
        path = tmp_path / f"{number}.{pack}"
        archive = (
            tarred(path, *(member(*item) for item in contents.items()))
            if pack == "tgz"
            else zipped(path, *contents.items())
        )
        with pytest.raises(BadData, match=r"is damaged \(.* bytes is more than belongs there"):
            unpack_tree(archive, place, most_bytes=ROOM)
        assert sum(path.stat().st_size for path in place.rglob("*")) < 8 << 20


def test_a_zip_that_says_less_than_it_holds_writes_no_more_than_it_says(tmp_path, place):
    """Its directory promises 10 bytes of 8 MiB."""
    archive = zipped(tmp_path / "t.zip", ("zeros", bytes(8 << 20)))
    content = archive.read_bytes()
    archive.write_bytes(content.replace(struct.pack("<I", 8 << 20), struct.pack("<I", 10)))
    with pytest.raises(BadData, match=r"t\.zip is damaged"):  # as its checksum is that of all
        unpack_tree(archive, place, most_bytes=ROOM)
    assert (place / "zeros").stat().st_size <= 10


@pytest.mark.parametrize("harm", ["cut", "garbage", "flipped", "locked"])
@pytest.mark.parametrize("pack", ["tgz", "zip"])
def test_a_damaged_archive_is_named_in_one_line(tmp_path, place, pack, harm):
    path = tmp_path / f"t.{pack}"
    noise = bytes(range(256)) * 40
    archive = tarred(path, member("a", noise)) if pack == "tgz" else zipped(path, ("a", noise))
    content = bytearray(archive.read_bytes())
    if harm == "locked":
        if pack == "tgz":
            pytest.skip("a tar has no password")
        for mark, place_of_flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(mark) + place_of_flag] |= 1
    elif harm == "flipped":
        content[60] ^= 0xFF
    else:
        content = content[: len(content) // 2] if harm == "cut" else b"<html>" * 100
    archive.write_bytes(content)
    with pytest.raises(
        LilliputError, match=rf"t\.{pack} (is damaged|cannot be unpacked).*remove it and try again"
    ) as raised:
        unpack_tree(archive, place, most_bytes=ROOM)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("pack", ["tgz", "zip"])
def test_a_file_in_place_of_a_folder_is_an_error_of_ours(tmp_path, place, pack):
    path = tmp_path / f"t.{pack}"
    archive = (
        tarred(path, member("a", b"1"), member("a/b", b"2"))
        if pack == "tgz"
        else zipped(path, ("a", b"1"), ("a/b", b"2"))
    )
    with pytest.raises(LilliputError, match="place"):
        unpack_tree(archive, place, most_bytes=ROOM)
