"""Shards in an object store, by fsspec: that of `store`, whose connections are cut."""

import pytest
import torch

from lilliput.data import download, remote
from lilliput.data.remote import bring, look_up
from lilliput.datasets import open_data
from lilliput.errors import LilliputError
from lilliput.system.bucket import Bucket
from tests.conftest import rng
from tests.data.conftest import shard_of

pytest.importorskip("s3fs", reason="the extra `remote` brings it")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # connections that were cut, of libraries

COUNT, EACH = 3, 8


@pytest.fixture
def folder(store, tmp_path, monkeypatch):
    """Three shards of eight images, here and in the store."""
    import s3fs

    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)  # so that a cut is ours to mend
    s3fs.S3FileSystem.clear_instance_cache()
    for number in range(COUNT):
        path = shard_of(tmp_path / f"{number:03d}.tar", range(number * EACH, (number + 1) * EACH))
        Bucket("s3://bucket/shards").write(path.name, path.read_bytes())
    yield tmp_path
    s3fs.S3FileSystem.clear_instance_cache()


def epoch_of(images):
    return torch.stack(list(images.batches(4, "cpu", 1, rng())))


def test_shards_of_a_store_give_the_images_of_those_on_the_disk(folder, store):
    streamed = open_data("s3://bucket/shards/{000..002}.tar").pool
    local = open_data(f"{folder}/{{000..002}}.tar").pool
    assert streamed.digest == local.digest
    assert torch.equal(epoch_of(streamed), epoch_of(local))


def test_a_missing_shard_is_named_and_passed_over(folder, store, capsys):
    assert len(open_data("s3://bucket/shards/{000..003}.tar").pool) == COUNT * EACH
    assert "passed over s3://bucket/shards/003.tar: there is no s3://bucket/shards/003.tar" in capsys.readouterr().err


def test_a_cut_connection_goes_on_from_where_it_broke(folder, store, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(download, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(remote, "READ_AHEAD", 2000)
    found, path = look_up("s3://bucket/shards/000.tar"), tmp_path / "brought.tar"
    store.cuts = [*[None] * 6, 1200, *[None] * 5, 1500]
    bring(found, path)
    assert not store.cuts and path.read_bytes() == (folder / "000.tar").read_bytes()
    assert "broke off at 0.0 MiB" in capsys.readouterr().err


def test_another_version_is_never_joined_to_what_came_of_the_first(folder, store, tmp_path):
    found, path = look_up("s3://bucket/shards/000.tar"), tmp_path / "brought.tar"
    (tmp_path / "brought.tar.part").write_bytes((folder / "000.tar").read_bytes()[:1000])
    bring(found, path)  # goes on after what is there
    assert path.read_bytes() == (folder / "000.tar").read_bytes()
    Bucket("s3://bucket/shards").write("000.tar", (folder / "001.tar").read_bytes())
    with pytest.raises(LilliputError, match="has changed since it was looked up"):
        bring(found, tmp_path / "again.tar")


def test_what_is_no_address_of_a_file_is_told(folder, store):
    for url, why in (("s3://bucket/shards", "is a folder"), ("nowhere://x", "no address that fsspec knows")):
        with pytest.raises(LilliputError, match=why):
            look_up(url)
