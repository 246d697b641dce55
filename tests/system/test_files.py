"""Files whole or not at all, set aside when damaged; and where they live."""

import os
from pathlib import Path

import pytest

from lilliput.errors import LilliputError, Unreadable
from lilliput.system import files
from lilliput.system.files import append_whole, cannot_write, clear_drafts, home, read_whole, set_aside, write_whole


def test_what_is_written_whole_replaces_what_was_there_and_leaves_no_draft(tmp_path):
    for content in (b"first", b"second"):
        write_whole(tmp_path / "file", content)
        assert read_whole(tmp_path / "file") == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    write_whole(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LilliputError, match="No space left on device; what was saved before is whole"):
        write_whole(tmp_path / "file", b"new")
    assert read_whole(tmp_path / "file") == b"old" and len(list(tmp_path.iterdir())) == 1


def test_lines_are_added_after_a_torn_one(tmp_path):
    (tmp_path / "log").write_bytes(b"whole\nto")
    append_whole(tmp_path / "log", b"next\n")
    append_whole(tmp_path / "log", b"last\n")
    assert read_whole(tmp_path / "log") == b"whole\nto\nnext\nlast\n"


def test_only_old_drafts_are_removed(tmp_path):
    for name in (".a.1.tmp", ".b.2.tmp", ".other.tmp"):
        (tmp_path / name).touch()
    for name in (".a.1.tmp", ".other.tmp"):
        os.utime(tmp_path / name, (0, 0))
    clear_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".b.2.tmp", ".other.tmp"}


def test_what_is_damaged_is_set_aside_under_a_name_of_its_own_and_said(tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / "file").write_text(str(number))
        set_aside(tmp_path / "file", "torn")
        assert (tmp_path / f"file.damaged-{number}").read_text() == str(number)
    assert capsys.readouterr().err.count("is damaged (torn): set aside") == 2


def test_what_could_not_be_read_is_not_set_aside(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unreadable):
        set_aside(tmp_path / "file", Unreadable("cannot read it"))
    assert (tmp_path / "file").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreadable, match="no regular file"):
        read_whole(tmp_path / "pipe")


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "home"))
    assert home() == tmp_path / "home"
    monkeypatch.delenv("LILLIPUT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "lilliput"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "lilliput"


def test_a_home_may_be_given_as_shells_write_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LILLIPUT_HOME", "~/mine")
    assert files.home() == Path(tmp_path / "mine")


def test_drafts_of_the_dead_go_and_what_others_left_stays(tmp_path):
    names = ".run.json.123.tmp", ".thesis.tmp", ".log.jsonl.77.tmp", "a.123.tmp"
    for name in names:
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1, 1))
    os.utime(tmp_path / ".log.jsonl.77.tmp")  # being written at this moment, perhaps by another machine
    clear_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def test_a_home_that_cannot_be_written_in_names_the_way_out(tmp_path):
    for error, reason in ((OSError(28, "No space left on device"), "No space left on device"), (OSError("odd"), "odd")):
        message = str(cannot_write(tmp_path, error))
        assert message.startswith(f"cannot write in {tmp_path}: {reason}; make room") and "$LILLIPUT_HOME" in message


def test_a_user_without_a_home_is_told_of_the_variable(monkeypatch):
    """A container's user without an entry in passwd got a traceback: Could not determine home directory."""
    for name in ("LILLIPUT_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where nobody knows the user
    with pytest.raises(LilliputError, match=r"\$LILLIPUT_HOME"):
        files.home()
