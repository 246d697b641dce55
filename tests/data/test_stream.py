"""Images of shards, from the disk and from a server on this machine that cuts connections."""

import errno
import itertools
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from lilliput import api
from lilliput.data import download, feed, leaks, shelf, stream
from lilliput.data.shards import read_member
from lilliput.data.stream import Order
from lilliput.datasets import _shards, open_data
from lilliput.errors import BadData, BadSetting, CannotWrite, LilliputError
from lilliput.images.decode import decode
from lilliput.system import distributed, progress, signals
from lilliput.system.files import home
from lilliput.training import run as training_run
from lilliput.training.record import read_log
from tests.conftest import NARROW, measured_log, rng, saved_bits
from tests.data.conftest import packed, png, shard_of

COUNT, EACH = 6, 16  # shards, images in each
SEEDS = range(COUNT * EACH)


@pytest.fixture
def folder(tmp_path):
    """Six shards of sixteen images of 16 px."""
    (tmp_path / "shards").mkdir()
    for number in range(COUNT):
        shard_of(tmp_path / "shards" / f"{number:03d}.tar", SEEDS[number * EACH : (number + 1) * EACH])
    return tmp_path / "shards"


@pytest.fixture
def small_windows(monkeypatch):
    """Of two shards, so that an epoch has three."""
    monkeypatch.setattr(stream, "WINDOW_IMAGES", 2 * EACH)
    monkeypatch.setattr(stream, "WINDOW_SHARDS", 2)


def pool(folder, **options):
    return open_data(f"{folder}/{{000..{COUNT - 1:03d}}}.tar", **options).pool


def epoch_of(images, epoch=1, size=8, start=0):
    """An epoch's batches."""
    return list(images.batches(size, "cpu", epoch, rng(epoch), start))


def named(batches):
    """The seed of each image in the batches."""
    known = {decode(png(seed), 16).tobytes(): seed for seed in SEEDS}
    return [known[(image * 255).round().byte().numpy().tobytes()] for batch in batches for image in batch]


def test_every_image_comes_once_in_an_epoch_and_in_another_order_in_the_next(folder, small_windows):
    images = pool(folder)
    first, second = named(epoch_of(images, 1)), named(epoch_of(images, 2))
    assert len(images) == len(SEEDS) and sorted(first) == sorted(second) == list(SEEDS)
    assert first != second and first == named(epoch_of(pool(folder), 1))


def test_pixels_are_those_of_the_store_of_the_same_files(folder, tmp_path):
    for seed in SEEDS:
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / f"{seed:04d}.png").write_bytes(png(seed))
    store = open_data(tmp_path / "files", image_size=12).pool
    assert torch.equal(pool(folder, image_size=12).batch(slice(None)), store.batch(slice(None)))


def test_an_epoch_goes_on_at_any_batch(folder, small_windows):
    images = pool(folder)
    whole = epoch_of(images)
    for start in (1, 5, len(whole)):
        assert torch.equal(torch.stack([*whole[:start], *epoch_of(images, start=start)]), torch.stack(whole))


def test_the_order_is_known_by_windows_without_a_read():
    """Ten million images: nothing of that size is made but a window."""
    order = Order(range(0, 10_000_001, 1000), seed=3)
    assert len(order) == 10_000_000 and len(order.windows) == 1112
    part = order[5_000_000:5_000_064]
    assert np.array_equal(part, np.concatenate([order[5_000_000:5_000_032], order[5_000_032:5_000_064]]))
    assert len(set(part // 1000)) > 6  # of the window's nine shards
    assert np.array_equal(order[5_000_000:5_000_064:2], part[::2])


def test_each_of_several_processes_decodes_its_part_of_every_batch(folder, small_windows, monkeypatch):
    whole, parts = named(epoch_of(pool(folder))), []
    monkeypatch.setattr(distributed, "size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(epoch_of(pool(folder)))
    joined = [torch.cat(both) for both in zip(*parts, strict=True)]
    assert all(len(part) == 4 for both in parts for part in both) and named(joined) == whole


def test_a_window_has_both_images_and_shards_enough(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW_IMAGES", 100)
    few = Order(np.cumsum([0] + [500] * 10).tolist(), seed=0)
    assert [len(window) for window in few.windows] == [4, 4, 2]
    many = Order(np.cumsum([0] + [10] * 100).tolist(), seed=0)
    assert [len(window) for window in many.windows] == [10] * 10


def test_no_more_than_the_batches_ahead_are_decoded(folder, monkeypatch):
    """Bounded memory: what was decoded and not yet taken is counted at every batch."""
    decoded = itertools.count()
    monkeypatch.setattr(stream, "decode", lambda *of: (next(decoded) and None) or decode(*of))
    taken, most = 0, 0
    for batch in pool(folder).batches(8, "cpu", 1, rng()):
        done = int(repr(decoded)[6:-1])
        taken += len(batch)
        most = max(most, done - taken + len(batch))
    assert taken == len(SEEDS) and most <= (stream.AHEAD + 1) * 8


def test_a_run_stopped_in_an_epoch_gives_the_same_bits_as_an_undisturbed_one(
    folder, tmp_path, monkeypatch, small_windows
):
    data = open_data(f"{folder}/*.tar")
    whole = api.pretrain("simclr", "resnet18", data, tmp_path / "whole", **NARROW)
    calls = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(signals, "asked", lambda: 15 if next(calls) == 9 else None)  # in epoch 2 of six steps each
        with pytest.raises(signals.Stopped, match="after epoch 1 and 2 steps"):
            api.pretrain("simclr", "resnet18", data, tmp_path / "cut", **NARROW)
    cut = api.pretrain("simclr", "resnet18", open_data(f"{folder}/*.tar"), tmp_path / "cut", **NARROW)
    assert saved_bits(cut) == saved_bits(whole) and measured_log(cut) == measured_log(whole)
    record = training_run.reopen(cut, {})[0]
    assert record["data_digest"] == data.pool.digest and record["data_digest_of"].startswith("names and sizes")


def test_an_image_that_cannot_be_read_is_stood_in_for_and_counted(tmp_path, capsys):
    """Its header is sound, so the index has it."""
    torn = png(1, size=64)[:-400]
    packed(tmp_path / "a.tar", *((f"{n}.png", torn if n == 3 else png(n)) for n in range(16)))
    data = open_data(str(tmp_path / "a.tar"), image_size=16)
    batches = epoch_of(data.pool)
    assert list(data.pool.passed_over) == [3] and "3.png" in capsys.readouterr().err
    expected = [4 if seed == 3 else seed for seed in data.pool.order(rng(1))[0:16].tolist()]
    assert named(batches) == expected
    out = api.pretrain("simclr", "resnet18", data, tmp_path / "run", **{**NARROW, "epochs": 1, "batch": 8})
    assert read_log(out)[-1]["images_passed_over"] == 1
    assert "1 of 16 images could not be read" in capsys.readouterr().err


def test_where_no_image_can_be_read_the_run_ends(tmp_path):
    packed(tmp_path / "a.tar", *((f"{n}.png", png(n, size=64)[:-400]) for n in range(4)))
    with pytest.raises(BadData, match=r"no image of .* can be read any more"):
        epoch_of(open_data(str(tmp_path / "a.tar")).pool, size=4)


def test_a_disk_that_fails_for_a_moment_costs_no_image_for_good(folder, monkeypatch, capsys):
    """Images were left out for the rest of the process, as if they were damaged; so a resumed run saw others."""

    def failing(file, *of):
        if file.name.endswith("003.tar"):
            raise OSError(errno.EIO, "Input/output error")
        return read_member(file, *of)

    images = pool(folder)
    with monkeypatch.context() as patch:
        patch.setattr(stream, "read_member", failing)
        assert set(named(epoch_of(images))) == set(SEEDS) - set(range(3 * EACH, 4 * EACH))
    assert not images.passed_over and "Input/output error" in capsys.readouterr().err
    assert sorted(named(epoch_of(images, 2))) == list(SEEDS)


def test_for_want_of_memory_no_image_is_left_out(folder, monkeypatch):
    def greedy(*_):
        raise MemoryError

    images = pool(folder)
    monkeypatch.setattr(stream, "decode", greedy)
    with pytest.raises(MemoryError):
        epoch_of(images)
    assert not images.passed_over


def test_an_accelerator_gets_the_bytes_copied_ahead(folder, monkeypatch):
    """They came as they were decoded, from memory that no copy can be made from while the program goes on."""
    monkeypatch.setattr(feed, "copied", lambda make, of, device: (make(one) for one in of))
    bytes_ = list(pool(folder).batches(8, "cuda", 1, rng(1)))
    assert {batch.dtype for batch in bytes_} == {torch.uint8}
    assert torch.equal(torch.stack(bytes_) / 255, torch.stack(epoch_of(pool(folder))))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_accelerator_gets_the_batches_of_the_processor(folder):
    batches = [batch.cpu() for batch in pool(folder).batches(8, "cuda", 1, rng(1))]
    torch.testing.assert_close(torch.stack(batches), torch.stack(epoch_of(pool(folder))))


def test_a_bad_shard_is_named_and_passed_over(folder, capsys):
    (folder / "002.tar").write_bytes((folder / "002.tar").read_bytes()[:5000])
    (folder / "004.tar").unlink()
    images = pool(folder)
    said = capsys.readouterr().err
    assert len(images) == 4 * EACH and "002.tar is no whole tar" in said and "004.tar: No such file" in said
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(BadData, match="no shard of"):
        pool(folder)


def test_a_shard_that_goes_while_it_is_streamed_is_stood_in_for_until_the_next_epoch(folder, capsys):
    images = pool(folder)
    (folder / "003.tar").rename(folder / "away")
    seen = named(epoch_of(images))
    assert len(seen) == len(SEEDS) and set(seen) == set(SEEDS) - set(range(3 * EACH, 4 * EACH))
    assert capsys.readouterr().err.count("003.tar is passed over in this epoch, with its 16 images") == 1
    (folder / "away").rename(folder / "003.tar")
    assert sorted(named(epoch_of(images))) == list(SEEDS)


def test_a_shard_that_was_changed_is_not_read_by_its_old_index(folder, capsys):
    images = pool(folder)
    shard_of(folder / "003.tar", range(EACH))
    epoch_of(images)
    assert "003.tar has changed" in capsys.readouterr().err
    assert pool(folder).digest != images.digest


def test_patterns_name_shards_in_order(folder, monkeypatch):
    by_braces = pool(folder)
    for pattern in ("*.tar", "00{0,1,2,3,4,5}.tar", "0{00..05}.tar"):
        assert open_data(f"{folder}/{pattern}").pool.digest == by_braces.digest
    assert open_data(f"file://{folder}/*.tar").pool.digest == by_braces.digest
    with pytest.raises(BadSetting, match="counts down"):
        open_data(f"{folder}/{{005..000}}.tar")
    monkeypatch.setattr(_shards, "MOST_SHARDS", 100)
    with pytest.raises(BadSetting, match="more than 100 shards"):
        open_data(f"{folder}/{{0..99999999999999}}.tar")
    with pytest.raises(BadData, match="there is no"):
        open_data(f"{folder}/*.none.tar")


def test_shards_are_a_pool_beside_labelled_data_and_take_no_flags_of_stores(folder):
    data = open_data("photographs", pool=f"{folder}/*.tar", image_size=16)
    assert data.pool.streamed and data.test is not None and len(data.pool) == len(SEEDS)
    assert leaks.find(data) is not None and leaks.without(data, leaks.find(data)).pool is data.pool
    for said in ({"limit": 3}, {"balance": "equal"}, {"labels": "x.csv"}, {"pool": "y"}):
        with pytest.raises(BadSetting, match=f"takes no --{next(iter(said))}"):
            open_data(f"{folder}/*.tar", **said)
    with pytest.raises(BadSetting, match="cache-gib 1 goes with shards"):
        open_data("photographs", cache_gib=1)


class Server(ThreadingHTTPServer):
    """Serves a folder with an ETag. `cuts`: so many bytes of each of the next answers; `down`: names it refuses."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.cuts, self.down, self.log = Path(folder), [], set(), []
        self.lock = threading.Lock()

    def handle_error(self, *_):
        pass  # the other side hung up, as it should


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.server.folder / self.path.strip("/")
        wanted = self.headers.get("Range")
        with server.lock:
            server.log.append((path.name, wanted))
            cut = server.cuts.pop(0) if server.cuts else None
        if path.name in server.down:
            return self.send_error(503)
        if not path.exists():
            return self.send_error(404)
        content, start = path.read_bytes(), int(wanted[6:-1]) if wanted else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content[start:][:cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(folder, monkeypatch):
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.001)
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def streamed_from(server, **options):
    return open_data(f"http://127.0.0.1:{server.server_port}/{{000..005}}.tar", **options).pool


def held():
    return list((home() / "shards").glob("*/shard.tar"))


def test_shards_of_a_server_give_the_images_of_those_on_the_disk(folder, server):
    images = streamed_from(server)
    assert images.digest == pool(folder).digest
    assert torch.equal(torch.stack(epoch_of(images)), torch.stack(epoch_of(pool(folder))))


def test_a_cut_connection_goes_on_from_where_it_broke(folder, server):
    server.cuts = [None] * COUNT + [1000, 5000, 700, 300] * 5
    images = streamed_from(server, cache_gib=1)
    assert sorted(named(epoch_of(images))) == list(SEEDS)
    assert {"bytes=1000-", "bytes=5000-"} & {wanted for _, wanted in server.log}
    assert not list((images.folder).glob("*/*.part"))


def test_what_is_cached_is_not_asked_for_again(folder, server):
    images = streamed_from(server, cache_gib=1)
    epoch_of(images)
    asked = len(server.log)
    epoch_of(images, 2)
    assert len(server.log) == asked and len(held()) == COUNT


def test_without_a_cache_no_more_lies_on_the_disk_than_is_in_use(folder, server, monkeypatch):
    monkeypatch.setattr(stream, "WINDOW_IMAGES", 1)
    monkeypatch.setattr(stream, "WINDOW_SHARDS", 1)
    images = streamed_from(server)
    most = 0
    for _ in images.batches(8, "cpu", 1, rng()):
        most = max(most, len(held()))
    assert 2 <= most <= 4  # the window before, this and the next, and one that another makes room for


def test_a_shard_that_cannot_be_had_any_more_is_passed_over(folder, server, capsys):
    images = streamed_from(server)
    for path in held():
        path.unlink()
    server.down = {"001.tar"}
    seen = named(epoch_of(images))
    assert set(seen) == set(SEEDS) - set(range(EACH, 2 * EACH))
    assert "001.tar is passed over in this epoch" in capsys.readouterr().err


def test_a_server_that_does_not_answer_at_the_start_is_an_error_and_a_missing_shard_is_not(folder, server, capsys):
    (folder / "005.tar").unlink()
    assert len(streamed_from(server)) == 5 * EACH and "404" in capsys.readouterr().err
    server.down = {"001.tar"}
    with pytest.raises(LilliputError, match=r"cannot download .*001\.tar: the server says 503"):
        streamed_from(server)


def test_a_full_disk_here_ends_the_run_and_leaves_no_shard_out(folder, server, monkeypatch):
    def full(remote, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    images = streamed_from(server)
    for path in held():
        path.unlink()
    monkeypatch.setattr(shelf, "bring", full)
    with pytest.raises(CannotWrite, match="No space left on device; make room"):
        epoch_of(images)
    for index in (home() / "shards").glob("*/index.json"):
        index.unlink()
    with pytest.raises(CannotWrite, match="No space left on device; make room"):
        streamed_from(server)


def test_another_version_is_never_joined_to_what_came_of_the_first(folder, server):
    images = streamed_from(server)
    for path in held():
        path.unlink()
    shard_of(folder / "000.tar", range(50, 50 + EACH))
    assert set(named(epoch_of(images))) == set(SEEDS) - set(range(EACH))
    assert any("has changed since it was looked up" in why for why in images._gone.values())


def test_on_a_terminal_threads_draw_no_bars_of_their_own(server, monkeypatch, capsys):
    """Two live bars at once are an error of rich's, and a worker's pipe takes the words of one thread."""
    monkeypatch.setattr(progress, "CONSOLE", Console(force_terminal=True, stderr=True))
    server.cuts = [None] * COUNT + [100] * COUNT
    with progress.task("training", COUNT) as advance:
        for _ in streamed_from(server).batches(EACH, "cpu", 1, rng()):
            advance(1)
    said = capsys.readouterr().err
    assert "broke off" in said and "downloading" not in said
