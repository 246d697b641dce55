"""Downloads from a server on this machine that behaves badly in all the ways that servers do."""

import hashlib
import http.client
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lilliput.data import download
from lilliput.data.download import fetch
from lilliput.errors import BadData, LilliputError

content = np.random.default_rng(0).bytes(3_000_000)
md5 = hashlib.md5(content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`, cut off after `cuts[i]` bytes in answer i; `log` has the Range of every request.

    `length`: what it says of the answer's length, a function of the true one. `stalls`: it waits where it would cut.
    `drips`: it sends a byte at a time, with so many seconds between two.
    `endless`: it sends more until nobody listens. `refuses_ranges`: its answer to one. `elsewhere`: where it sends to.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.log, self.knows_ranges, self.status = content, [], [], True, None
        self.length, self.stalls, self.endless, self.refuses_ranges, self.elsewhere = str, None, False, None, None
        self.most, self.sent_in_excess, self.drips = None, 0, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.bin"

    def handle_error(self, *_):
        pass  # the other side hung up, as it should


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.log.append(wanted)
        if server.status is not None:
            return self.send_error(server.status)
        if wanted and server.refuses_ranges:
            return self.send_error(server.refuses_ranges)
        if server.elsewhere and self.path == "/file.bin":
            self.send_response(302)
            self.send_header("Location", server.elsewhere)
            return self.end_headers()
        start = int(wanted[6:-1]) if wanted and server.knows_ranges else 0
        if start and start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:][: server.most]
        self.send_response(206 if start else 200)
        if (length := server.length(len(body))) is not None:
            self.send_header("Content-Length", length)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        with suppress(OSError):
            while server.drips:
                self.wfile.write(body[:1])
                body = body[1:]
                time.sleep(server.drips)
        cut = bool(server.cuts)
        self.wfile.write(body[: server.cuts.pop(0)] if cut else body)
        if cut and server.stalls:
            server.stalls.wait(20)
        with suppress(OSError):
            while server.endless and server.sent_in_excess < 1 << 30:
                self.wfile.write(bytes(1 << 20))
                server.sent_in_excess += 1 << 20

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def download_from(server, path, **options):
    return fetch(server.url, path, size=len(content), md5=md5, **options)


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "deep" / "file.bin"
    assert download_from(server, path) == path and path.read_bytes() == content
    download_from(server, path)
    assert server.log == [None]
    assert only_file(path.parent) == path


def test_of_a_file_of_unknown_length_the_server_says_it_and_no_more_is_taken(server, tmp_path):
    path = tmp_path / "file.bin"
    assert fetch(server.url, path, md5=md5, most_bytes=len(content)).read_bytes() == content
    fetch(server.url, path, md5=md5)
    assert server.log == [None, None]  # asked, and fetched; then it is there
    (tmp_path / "cut.part").write_bytes(content[:1_000_000])
    assert fetch(server.url, tmp_path / "cut", md5=md5).read_bytes() == content
    assert server.log[2:] == [None, "bytes=1000000-"]
    with pytest.raises(LilliputError, match=f"offers 3000000 bytes, more than {len(content) - 1}"):
        fetch(server.url, tmp_path / "other", md5=md5, most_bytes=len(content) - 1)
    server.length = lambda true: None
    with pytest.raises(LilliputError, match="does not say how long it is"):
        fetch(server.url, tmp_path / "other", md5=md5)
    server.status = 503
    with pytest.raises(LilliputError, match=r"cannot download .* 503"):
        fetch(server.url, tmp_path / "other", md5=md5)
    assert {path.name for path in tmp_path.iterdir()} == {"file.bin", "cut"}


def test_a_cut_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts = [1_000_000, 500_000]
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_takes_up_what_an_earlier_one_left(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content[:2_000_000])
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log == ["bytes=2000000-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    server.cuts = [1_000_000]
    assert download_from(server, tmp_path / "f").read_bytes() == content


def test_a_part_that_was_whole_is_used(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content)
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log == []


@pytest.mark.parametrize("left", [b"x" * 100, b"x" * len(content), b"x" * (len(content) + 1)])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, left):
    (tmp_path / "f.part").write_bytes(left)
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log[-1] is None


def test_wrong_bytes_are_named_and_removed(server, tmp_path):
    server.content = b"w" * len(content)
    found = hashlib.md5(server.content).hexdigest()
    with pytest.raises(BadData, match=f"{server.url}.*{found}.*{md5}"):
        download_from(server, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "f").write_bytes(content[:-1] + b"x")
    assert download_from(server, tmp_path / "f").read_bytes() == content


def test_attempts_count_only_while_nothing_new_comes(server, tmp_path):
    server.cuts = [300_000] * 9
    assert download_from(server, tmp_path / "f", attempts=1).read_bytes() == content
    server.cuts = [300_000] + [0] * 9
    with pytest.raises(LilliputError, match="bytes are missing"):
        download_from(server, tmp_path / "g", attempts=3)
    assert len(server.cuts) == 6
    assert (tmp_path / "g.part").stat().st_size == 300_000  # kept, to go on from


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PER_SECONDS", 0.3)
    server.drips = 0.02
    with pytest.raises(LilliputError, match=rf"{server.url}: no more than \d+ bytes in .* goes on"):
        download_from(server, tmp_path / "f")
    server.drips = None
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log[0] is None and int(server.log[1].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_server_that_always_cuts_and_knows_no_ranges_is_given_up(server, tmp_path):
    server.knows_ranges, server.cuts = False, [300_000] * 99
    with pytest.raises(LilliputError, match=server.url):
        download_from(server, tmp_path / "f")
    assert len(server.log) <= 5


def test_a_missing_file_is_told_at_once(server, tmp_path):
    server.status = 404
    with pytest.raises(LilliputError, match=f"{server.url}.*404"):
        download_from(server, tmp_path / "f")
    assert len(server.log) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = 503
    with pytest.raises(LilliputError, match="503"):
        download_from(server, tmp_path / "f")
    assert len(server.log) == 3


def test_no_network_is_one_error_that_names_the_address(server, tmp_path):
    server.server_close()
    with pytest.raises(LilliputError, match=f"{server.url}.*refused"):
        download_from(server, tmp_path / "f")


def test_a_folder_that_cannot_be_written_names_the_way_out(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LilliputError, match=r"\$LILLIPUT_HOME"):
        download_from(server, tmp_path / "file" / "f")


def test_a_stalled_connection_is_taken_up_where_it_stopped(server, tmp_path, monkeypatch):
    """Waiting for whole mebibytes once threw away what had come of one before the server fell silent."""
    monkeypatch.setattr(download, "SECONDS_WITHOUT_ANSWER", 0.3)
    server.stalls, server.cuts = threading.Event(), [300_000, 300_000]
    try:
        assert download_from(server, tmp_path / "f", attempts=1).read_bytes() == content
        assert server.log == [None, "bytes=300000-", "bytes=600000-"]
        server.cuts = [0] * 3
        with pytest.raises(LilliputError, match=f"{server.url}.*timed out"):
            download_from(server, tmp_path / "g")
    finally:
        server.stalls.set()


@pytest.mark.parametrize("said", [1, 500, len(content) - 1, len(content) + 1, 10**30])
def test_a_length_that_cannot_be_is_refused_before_a_byte_is_written(server, tmp_path, said):
    server.length = lambda true: str(said)
    with pytest.raises(LilliputError, match=f"{server.url}.*{said} bytes where 3000000 are wanted"):
        download_from(server, tmp_path / "f")
    assert list(tmp_path.iterdir()) == [] and len(server.log) == 1


def test_a_page_in_place_of_the_file_costs_nothing_of_what_was_there(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content[:2_000_000])
    server.content, server.knows_ranges = b"<html>Please log in</html>", False
    with pytest.raises(LilliputError, match="26 bytes where 3000000 are wanted"):
        download_from(server, tmp_path / "f")
    assert (tmp_path / "f.part").read_bytes() == content[:2_000_000]


@pytest.mark.parametrize("said", [None, "many", "-5", ""])
def test_a_server_that_tells_no_length_is_read_to_its_end(server, tmp_path, said):
    server.length = lambda true: said
    server.cuts = [1_000_000]
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log == [None, "bytes=1000000-"]


@pytest.mark.parametrize("have", [0, 2_000_000])
def test_an_endless_body_is_left_at_the_size_of_the_file(server, tmp_path, have):
    server.endless, server.length = True, lambda true: None
    if have:
        (tmp_path / "f.part").write_bytes(content[:have])
    with pytest.raises(BadData, match=f"{server.url} has more than the 3000000 bytes"):
        download_from(server, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []
    assert server.sent_in_excess < 64 << 20  # what lay in the sockets' buffers


def test_a_server_may_give_less_at_once_than_was_asked(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content[:100])
    server.most = 1_200_000
    assert download_from(server, tmp_path / "f", attempts=1).read_bytes() == content
    assert server.log == ["bytes=100-", "bytes=1200100-", "bytes=2400100-"]


def test_a_server_that_has_less_than_was_there_is_asked_for_all(server, tmp_path):
    (tmp_path / "f.part").write_bytes(content[:2_000_000])
    server.refuses_ranges = 416
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log == ["bytes=2000000-", None]


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (500, 3)])
def test_an_error_in_place_of_a_range_leaves_what_was_there(server, tmp_path, status, requests):
    (tmp_path / "f.part").write_bytes(content[:2_000_000])
    server.refuses_ranges = status
    with pytest.raises(LilliputError, match=f"{server.url}.*{status}"):
        download_from(server, tmp_path / "f")
    assert (tmp_path / "f.part").read_bytes() == content[:2_000_000] and len(server.log) == requests


def test_a_redirect_is_followed_with_its_range(server, tmp_path):
    server.elsewhere, server.cuts = "/elsewhere.bin", [1_000_000]
    assert download_from(server, tmp_path / "f").read_bytes() == content
    assert server.log == [None, None, "bytes=1000000-", "bytes=1000000-"]


@pytest.mark.parametrize("elsewhere", ["/file.bin", "file:///etc/passwd", "http://[", "http://127.0.0.1:99999/"])
def test_a_redirect_to_nowhere_is_one_line(server, tmp_path, elsewhere):
    server.elsewhere = elsewhere
    with pytest.raises(LilliputError, match=server.url) as raised:
        download_from(server, tmp_path / "f")
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("elsewhere", ["/file.bin", "file:///etc/passwd", "http://[", "http://127.0.0.1:99999/"])
def test_a_redirect_to_nowhere_leaves_no_answer_open(server, tmp_path, monkeypatch, elsewhere):
    """urllib leaves the answer open whose new address cannot be read; its socket was then told of in another test."""
    answers, begin = [], http.client.HTTPResponse.begin

    def begun(answer):
        answers.append(answer)
        begin(answer)

    monkeypatch.setattr(http.client.HTTPResponse, "begin", begun)
    server.elsewhere = elsewhere
    with pytest.raises(LilliputError):
        download_from(server, tmp_path / "f")
    assert answers and all(answer.isclosed() for answer in answers)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000])
def test_what_speaks_no_http_is_one_error(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)

    class Strange(BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as strange:
        thread = threading.Thread(target=strange.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{strange.server_port}/"
        with pytest.raises(LilliputError, match=f"cannot download {url}: "):
            fetch(url, tmp_path / "f", size=5, md5=md5)
        strange.shutdown()
        thread.join()
