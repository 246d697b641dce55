"""Runs in an object store: that of `store`, on this machine, whose connections are cut."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

import lilliput
from lilliput import api
from lilliput.errors import BadSetting, LilliputError
from lilliput.studies import results
from lilliput.system import bucket, files, mirror
from lilliput.system.bucket import Bucket, Conflict
from lilliput.system.files import append_whole, remove, write_whole
from lilliput.system.locks import InUse, alone, has_locks, locked
from lilliput.training import run as training_run
from lilliput.training.record import read_log
from tests.conftest import NARROW, interrupt_at, measured_log, saved_bits

pytestmark = [
    pytest.mark.skipif(not has_locks(), reason="this system has no locks"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # connections that were cut, of libraries
]


ROOT = Path(lilliput.__file__).parents[1]


def on_machine(folder):
    """The environment of a process on a machine of its own, as far as it knows."""
    return {**os.environ, "LILLIPUT_HOME": str(folder)}


def driver(monkeypatch, folder, url="s3://bucket/run"):
    """The folder here of a driver on another machine."""
    monkeypatch.setenv("LILLIPUT_HOME", str(folder))
    return mirror.here(url)


def stored(url="s3://bucket/run"):
    """Name -> content of what is in the store, but for leases."""
    there = Bucket(url)
    return {name: there.read(name).content for name in there.versions() if not name.rpartition("/")[2].startswith(".")}


def test_of_writes_on_the_same_condition_one_takes_place(store):
    there, won = Bucket("s3://bucket/x"), []

    def write(number):
        with suppress(Conflict):
            there.write("name", b"%d" % number, only="")
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (number,) = won
    assert there.read("name").content == b"%d" % number
    with pytest.raises(Conflict):
        there.write("none", b"", only='"of another version"')


def test_a_write_whose_answer_is_cut_off_is_known_as_its_own(store):
    """It took place; tried again on condition that there is none, it meets itself."""
    there = Bucket("s3://bucket/x")
    there._client  # noqa: B018  (connects later)
    store.cuts = [20]
    there.write("name", b"content", only="")
    assert there.read("name").content == b"content" and not store.cuts


def test_cut_questions_and_answers_are_tried_again(store):
    there = Bucket("s3://bucket/x")
    store.cuts = [-300, 30, -5000]
    content = bytes(range(256)) * 100
    there.write("name", content)
    store.cuts = [1000]
    assert there.read("name").content == content


@pytest.mark.parametrize("most", range(15, 420, 45))
def test_an_answer_that_is_cut_anywhere_is_never_taken_for_whole(store, most):
    """Among the headers too: a list would be empty, a lease free, a version torn."""
    there = Bucket("s3://bucket/x")
    version = there.write("name", b"content")
    for ask, whole in ((there.versions, {"name": version}), (lambda: there.read("name").content, b"content")):
        there._client.close()  # its connections, so that the next is a new one
        store.cuts = [most]
        assert ask() == whole


def test_a_store_that_does_not_answer_is_told_and_costs_nothing(store, monkeypatch, tmp_path):
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    monkeypatch.setattr(bucket, "PAUSES", (0.0,))
    out = driver(monkeypatch, tmp_path)
    store.down = True
    with pytest.raises(LilliputError, match=r"does not take part .* the same command goes on"):
        write_whole(out / "file", b"1")
    assert (out / "file").read_bytes() == b"1"
    store.down = False
    with locked(out):  # what did not get there is sent
        pass
    assert stored() == {"file": b"1"}


def test_files_are_there_when_they_are_written_and_gone_when_they_are_removed(store, monkeypatch, tmp_path):
    out = driver(monkeypatch, tmp_path)
    (out / "cells").mkdir()
    write_whole(out / "cells" / "a", b"1\n")
    append_whole(out / "cells" / "a", b"2\n")
    (out / ".hidden").write_bytes(b"")
    write_whole(out / ".of this machine", b"")
    assert stored() == {"cells/a": b"1\n2\n"}
    remove(out / "cells" / "a")
    assert stored() == {}


def test_another_machine_begins_with_what_is_there(store, monkeypatch, tmp_path):
    first = driver(monkeypatch, tmp_path / "1")
    write_whole(first / "a", b"1")
    second = driver(monkeypatch, tmp_path / "2")
    assert second != first and (second / "a").read_bytes() == b"1"
    write_whole(second / "a", b"2")
    remove(first / "b")
    with alone(first):
        assert (first / "a").read_bytes() == b"2"
    with alone(second):
        remove(second / "a")
    with alone(first):
        assert not (first / "a").exists()


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../../x", "", "cells/", "a//x", ".seen/x"])
def test_a_name_that_leads_elsewhere_is_not_brought(store, monkeypatch, tmp_path, name):
    """A store takes any name; that of a folder, which its console makes, is no file."""
    Bucket("s3://bucket/run")._client.put_object(Bucket="bucket", Key=f"run/{name}", Body=b"harm")
    Bucket("s3://bucket/run").write("cells/a", b"1")
    out = driver(monkeypatch, tmp_path)
    assert (out / "cells" / "a").read_bytes() == b"1"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"harm"]
    assert not Path("/x").exists()


def test_a_look_from_this_machine_takes_nothing_from_the_driver_at_work_on_it(store, monkeypatch, tmp_path):
    """What is written here and not yet sent, as `lilliput report` of another window brings the study."""
    out = driver(monkeypatch, tmp_path)
    with locked(out):
        write_whole(out / "rows", b"1\n")
        with files.unwatched():
            append_whole(out / "rows", b"2\n")
        Bucket("s3://bucket/run").write("rows", b"of another")
        mirror.refresh(out)
        assert (out / "rows").read_bytes() == b"1\n2\n"


def test_one_at_a_time_works_in_a_folder(store, monkeypatch, tmp_path):
    first, second = driver(monkeypatch, tmp_path / "1"), driver(monkeypatch, tmp_path / "2")
    with alone(first), pytest.raises(InUse, match=r"s3://bucket/run/ is in use by process \d+ on"), alone(second):
        pass
    with alone(second):
        pass


def test_a_lease_that_nobody_renews_is_anybodys_and_who_lost_it_overwrites_nothing(store, monkeypatch, tmp_path):
    """The first driver sleeps; its keeper too."""
    first, second = driver(monkeypatch, tmp_path / "1"), driver(monkeypatch, tmp_path / "2")
    monkeypatch.setattr(mirror, "RENEWALS", 0.001)
    with alone(first):
        write_whole(first / "state", b"of the first")
        monkeypatch.setattr(mirror, "SECONDS_OF_A_LEASE", -1.0)  # long ago
        with alone(second):
            monkeypatch.setattr(mirror, "SECONDS_OF_A_LEASE", 60.0)
            write_whole(second / "state", b"of the second")
            with pytest.raises(InUse, match="was written by another process meanwhile"):
                write_whole(first / "state", b"of the first again")
    assert stored() == {"state": b"of the second"}
    with alone(first):
        assert (first / "state").read_bytes() == b"of the second"


def test_a_lease_counts_from_when_it_was_asked_for(store, monkeypatch, tmp_path):
    """The store's clock begins before its answer is here."""
    its, minutes = mirror.mirror_of(driver(monkeypatch, tmp_path)), [0]
    plainly = its.bucket.write

    def slowly(*what, **how):
        minutes[0] += 1
        return plainly(*what, **how)

    monkeypatch.setattr(its.bucket, "write", slowly)
    monkeypatch.setattr(mirror, "time", SimpleNamespace(monotonic=lambda: 60.0 * minutes[0], sleep=time.sleep))
    assert not its._take(".lease", waiting=False).holds


def test_of_those_that_begin_a_mirror_together_all_have_one_owner(store, monkeypatch, tmp_path):
    """Between one's look for the mark and its writing another begins, as under torchrun."""
    owners, plainly = [], mirror.write_whole

    def late(path, content):
        if path.name.startswith(mirror.MARK) and not owners:
            owners.append(None)
            owners[0] = mirror.mirror_of(driver(monkeypatch, tmp_path)).owner
        plainly(path, content)

    monkeypatch.setattr(mirror, "write_whole", late)
    out = driver(monkeypatch, tmp_path)
    assert [json.loads((out / mirror.MARK).read_bytes())["owner"]] == owners
    assert [path.name for path in out.iterdir() if path.name.startswith(mirror.MARK)] == [mirror.MARK]


def test_a_mirror_is_begun_where_files_have_one_name_alone(store, monkeypatch, tmp_path):
    def unknown(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", unknown)
    write_whole(driver(monkeypatch, tmp_path) / "a", b"1")
    assert stored() == {"a": b"1"}


def test_a_driver_that_was_killed_takes_its_own_lease_again_at_once(store, monkeypatch, tmp_path):
    out = driver(monkeypatch, tmp_path)
    code = "import os, sys\nfrom pathlib import Path\nfrom lilliput.system.locks import alone\n"
    code += "with alone(Path(sys.argv[1])):\n    os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, out], cwd=ROOT).returncode == 9
    with alone(out):
        pass


def test_a_lease_is_renewed_while_the_work_goes_on(store, monkeypatch, tmp_path):
    monkeypatch.setattr(mirror, "RENEWALS", 600)  # every tenth of a second
    out = driver(monkeypatch, tmp_path)
    there, versions = Bucket("s3://bucket/run"), set()
    with alone(out):
        until = time.monotonic() + 5
        while len(versions) < 3 and time.monotonic() < until:
            versions.add(there.read(".lease").version)
    assert len(versions) == 3 and there.read(".lease").content == b"{}"


def row(seed):
    return {"technique": "t", "backbone": "b", "seed": seed, "epoch": 1, "probe": "p", "metric": "m", "value": 0.5}


def append_rows(out, numbers):
    for number in numbers:
        results.append(out, [row(number)])


def check_rows(monkeypatch, folder):
    lines = stored()["results.csv"].splitlines()
    assert len(lines) == 17 and len(set(lines)) == 17
    assert sorted(results.read(driver(monkeypatch, folder)).seed) == list(range(16))


def test_rows_of_two_drivers_are_all_there_and_none_twice(store, monkeypatch, tmp_path):
    """Connections are cut as they write."""
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)  # botocore's pauses are long; ours are tried
    monkeypatch.setattr(mirror, "LONGEST_WAIT", 0.05)
    outs = [driver(monkeypatch, tmp_path / str(number)) for number in range(2)]
    store.cuts = [None] * 10 + [50, None, None, 200, None, -100] * 3
    crew = [threading.Thread(target=append_rows, args=(out, range(8 * n, 8 * n + 8))) for n, out in enumerate(outs)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not store.cuts
    check_rows(monkeypatch, tmp_path / "3")


@pytest.mark.heavy
def test_rows_of_two_processes_are_all_there_and_none_twice(store, monkeypatch, tmp_path):
    code = "import sys\nfrom lilliput.system.mirror import here\nfrom tests.system.test_mirror import append_rows\n"
    code += "append_rows(here('s3://bucket/run'), map(int, sys.argv[1:]))"
    store.cuts = [None] * 10 + [50, None, None, 200] * 3
    crew = []
    for number in range(2):
        command = [sys.executable, "-c", code, *map(str, range(8 * number, 8 * number + 8))]
        crew.append(subprocess.Popen(command, cwd=ROOT, env=on_machine(tmp_path / str(number))))
    assert [process.wait() for process in crew] == [0, 0]
    assert not store.cuts
    check_rows(monkeypatch, tmp_path / "3")


@pytest.mark.heavy
def test_two_drivers_share_a_study_in_a_bucket(store, monkeypatch, tmp_path):
    """Each on a machine of its own, as far as they know, through connections that are cut: each cell once, each row
    once, and the figures are those of one driver in a folder."""
    settings = ["study", "--data", "scenes", "--techniques", "rotnet", "--backbones", "shufflenet_v2", "--baselines"]
    settings += ["pixels", "random_init", "--seeds", "0", "1", "--epochs", "2", "--batch", "16", "--limit", "64"]
    settings += [
        "--image-size",
        "16",
        "--every",
        "1",
        "--device",
        "cpu",
        "--plan",
        "precision=fp32",
        "channels_last=true",
        "threads=1",
    ]
    url = "s3://bucket/studies/one"

    def begin(out, number):
        command = [sys.executable, "-m", "lilliput", *settings, "--workers", "1", "--out", str(out)]
        home = on_machine(tmp_path / f"machine-{number}")
        return subprocess.Popen(command, cwd=ROOT, env=home, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    store.cuts = [None] * 30 + [60, None, None, None, 200, None, None, None, None, -400] * 8
    crew = [begin(url, number) for number in range(2)]
    said = [process.communicate(timeout=400)[1].decode() for process in crew]
    assert [process.returncode for process in crew] == [0, 0], said
    assert not store.cuts
    study = driver(monkeypatch, tmp_path / "another", url)
    rows, lines = results.read(study), stored(url)["results.csv"].splitlines()
    assert len(lines) == len(set(lines)) == len(rows) + 1 and not results.torn(rows)
    assert [len(read_log(study / "cells" / f"rotnet-shufflenet_v2-{seed}")) for seed in (0, 1)] == [2, 2]
    assert begin(tmp_path / "alone", 0).wait(timeout=400) == 0
    expected = results.read(tmp_path / "alone")
    assert values(rows) == values(expected)


def values(rows):
    """Identity -> value of those that are measured, not timed."""
    return {tuple(row[name] for name in results.KEY): row["value"] for row in rows.to_dict("records")}


def test_a_run_that_was_killed_on_one_machine_goes_on_on_another_with_the_same_bits(
    scenes, finished_run, store, monkeypatch, tmp_path
):
    url = "s3://bucket/runs/simclr"
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "1"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, training_run, "save_state", 3)  # when the state of epoch 2 was about to be written
        with pytest.raises(KeyboardInterrupt):
            api.pretrain("simclr", "resnet18", scenes, url, **NARROW)
    assert {"state_000.safetensors", "state_001.safetensors"} <= set(stored(url))
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "2"))
    out = api.pretrain("simclr", "resnet18", scenes, url, **NARROW)
    assert saved_bits(out) == saved_bits(finished_run) and measured_log(out) == measured_log(finished_run)
    here = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name[0] != "."}
    assert stored(url) == here


def test_places_are_folders_or_addresses(tmp_path):
    assert mirror.here(tmp_path) == mirror.here(f"file://{tmp_path}") == tmp_path
    with pytest.raises(BadSetting, match="kept in folders and in s3"):
        mirror.here("gs://bucket/run")
    with pytest.raises(BadSetting, match="names no bucket"):
        Bucket("s3://")


def test_a_folder_of_that_name_marks_no_mirror(tmp_path):
    """A file system has room for anybody's names; the work in a folder below one must not end for it."""
    (tmp_path / mirror.MARK).mkdir()
    assert mirror.mirror_of(tmp_path / "runs") is None
