"""Downloads from a server on this machine that behaves badly in all the ways that servers do."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lilliput import download
from lilliput.download import fetch
from lilliput.errors import BadData, LilliputError

content = np.random.default_rng(0).bytes(3_000_000)
md5 = hashlib.md5(content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`, cut off after `cuts[i]` bytes in answer i; `log` has the Range of every request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.log, self.knows_ranges, self.status = content, [], [], True, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.log.append(wanted)
        if server.status is not None:
            return self.send_error(server.status)
        start = int(wanted[6:-1]) if wanted and server.knows_ranges else 0
        if start and start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "pause_seconds", 0.0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "deep" / "file.bin"
    assert fetch(server.url, path, md5=md5) == path and path.read_bytes() == content
    fetch(server.url, path, md5=md5)
    assert server.log == [None]
    assert only_file(path.parent) == path


def test_a_cut_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts = [1_000_000, 500_000]
    assert fetch(server.url, tmp_path / "f", md5=md5).read_bytes() == content
    assert server.log == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_takes_up_what_an_earlier_one_left(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content[:2_000_000])
    assert fetch(server.url, tmp_path / "f", md5=md5).read_bytes() == content
    assert server.log == ["bytes=2000000-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    server.cuts = [1_000_000]
    assert fetch(server.url, tmp_path / "f", md5=md5).read_bytes() == content


def test_a_part_that_was_whole_is_used(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content)
    assert fetch(server.url, tmp_path / "f", md5=md5).read_bytes() == content
    assert server.log == ["bytes=3000000-"]


@pytest.mark.parametrize("left", [b"x" * 100, b"x" * len(content), b"x" * (len(content) + 1)])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, left):
    (tmp_path / "f.part").write_bytes(left)
    assert fetch(server.url, tmp_path / "f", md5=md5).read_bytes() == content
    assert server.log[-1] is None


def test_wrong_bytes_are_named_and_removed(server, tmp_path):
    server.content = b"wrong" * 100
    found = hashlib.md5(server.content).hexdigest()
    with pytest.raises(BadData, match=f"{server.url}.*{found}.*{md5}"):
        fetch(server.url, tmp_path / "f", md5=md5)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "f").write_bytes(content[:-1] + b"x")
    assert fetch(server.url, tmp_path / "f", md5=md5).read_bytes() == content


def test_attempts_count_only_while_nothing_new_comes(server, tmp_path):
    server.cuts = [300_000] * 9
    assert fetch(server.url, tmp_path / "f", md5=md5, attempts=1).read_bytes() == content
    server.cuts = [300_000] + [0] * 9
    with pytest.raises(LilliputError, match="bytes are missing"):
        fetch(server.url, tmp_path / "g", md5=md5, attempts=3)
    assert len(server.cuts) == 6
    assert (tmp_path / "g.part").stat().st_size == 300_000  # kept, to go on from


def test_a_server_that_always_cuts_and_knows_no_ranges_is_given_up(server, tmp_path):
    server.knows_ranges, server.cuts = False, [300_000] * 99
    with pytest.raises(LilliputError, match=server.url):
        fetch(server.url, tmp_path / "f", md5=md5)
    assert len(server.log) <= 5


def test_a_missing_file_is_told_at_once(server, tmp_path):
    server.status = 404
    with pytest.raises(LilliputError, match=f"{server.url}.*404"):
        fetch(server.url, tmp_path / "f", md5=md5)
    assert len(server.log) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = 503
    with pytest.raises(LilliputError, match="503"):
        fetch(server.url, tmp_path / "f", md5=md5)
    assert len(server.log) == 3


def test_no_network_is_one_error_that_names_the_address(server, tmp_path):
    server.server_close()
    with pytest.raises(LilliputError, match=f"{server.url}.*refused"):
        fetch(server.url, tmp_path / "f", md5=md5)


def test_a_folder_that_cannot_be_written_names_the_way_out(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LilliputError, match=r"\$LILLIPUT_HOME"):
        fetch(server.url, tmp_path / "file" / "f", md5=md5)
