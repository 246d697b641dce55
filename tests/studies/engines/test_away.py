"""What a process on another machine is told, and what keeps it from the study."""

import os
import pickle
import shutil
import sys
from functools import partial

import pytest

from lilliput.data.store import open_store
from lilliput.errors import BadSetting
from lilliput.studies.engines import Engine, Needs, Processes, Slurm, engine_of
from lilliput.studies.engines._away import Order, carry_out, environment, look, token_in
from lilliput.studies.engines.slurm import minutes
from lilliput.system import signals
from lilliput.system.progress import Board
from tests.studies.engines import duties
from tests.studies.engines.conftest import QUEUE
from tests.studies.engines.duties import alone_in, here, mark


def test_a_machine_that_does_not_see_the_folder_is_told_the_way_out(tmp_path):
    with token_in(tmp_path) as token:
        pass
    seen = look(token, pickle.dumps(None))
    assert f"does not see {tmp_path}; put --out and $LILLIPUT_HOME on a file system" in seen.hindrance


def test_a_machine_that_does_not_see_the_images_is_told_the_way_out(scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    store = open_store(shutil.copytree(scenes.pool.folder, tmp_path / "store"))
    make_shop = pickle.dumps(partial(here, store))
    with token_in(tmp_path) as token:
        assert look(token, make_shop).hindrance is None
        shutil.rmtree(store.folder)
        assert "cannot open the study" in look(token, make_shop).hindrance
    finished = carry_out(Order("a", pickle.dumps(None), make_shop, str(tmp_path), 1), print)
    assert "cannot open the study" in finished.error and "$LILLIPUT_HOME" in finished.error


def test_who_holds_the_token_is_known_by_its_lock(tmp_path):
    with token_in(tmp_path) as token:
        assert not look(token, pickle.dumps(None)).sees_locks  # the same process may ask again
    assert list(tmp_path.iterdir()) == []


def test_a_job_waits_for_the_lock_of_one_that_is_ending(tmp_path, monkeypatch):
    from lilliput.studies.engines import _away

    tries = []

    def twice(name, job, shop):
        tries.append(name)
        return done(name, job, shop)._replace(elsewhere=len(tries) < 2)

    done = _away.done
    monkeypatch.setattr(_away, "done", twice)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    order = Order.of("cell", partial(alone_in, "cell"), partial(here, tmp_path), 1)
    assert not carry_out(order, print).elsewhere and tries == ["cell", "cell"]
    tries.clear()
    assert carry_out(order._replace(patience=0.0), print).elsewhere and tries == ["cell"]


def test_a_workshop_is_made_once_for_the_jobs_of_a_process(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = []
    monkeypatch.setattr(duties, "here", lambda: made.append(1) or tmp_path)
    for name in "ab":
        make_shop = b"ctests.studies.engines.duties\nhere\n."  # a pickle by name
        order = Order(name, pickle.dumps(partial(mark, name)), make_shop, str(tmp_path), 1)
        assert carry_out(order, print).error is None
    assert made == [1] and (tmp_path / "b").exists()


def test_a_process_elsewhere_has_our_home_and_our_own_files(monkeypatch):
    monkeypatch.setenv("LILLIPUT_USE", "techniques=/a/pairs.py")
    assert environment()["LILLIPUT_USE"] == "techniques=/a/pairs.py" and environment()["LILLIPUT_HOME"].startswith("/")


@pytest.mark.parametrize(
    ("time", "expected"),
    [("90", 90), (90, 90), ("4:30", 5), ("1:30:00", 90), ("2-00", 2880), ("1-02:30", 1590), ("1-00:00:30", 1441)],
)
def test_a_time_is_read_as_sbatch_reads_it(time, expected):
    assert minutes(time) == expected


@pytest.mark.parametrize("time", ["soon", "0", "1:2:3:4", "-1", "1-1:1:1:1", ""])
def test_a_time_that_is_none_is_refused(time):
    with pytest.raises(BadSetting, match="is none of sbatch's"):
        minutes(time)


def test_amounts_are_numbers_of_things_that_there_are():
    assert Needs.of({"cpus": "2", "gpus": 0.5}) == Needs(2, 0.5)
    assert str(Needs(2, 0.5, 8)) == "cpus=2, gpus=0.5, memory_gib=8"
    for words, told in (({"gpu": 1}, "resource 'gpu' is none of cpus"), ({"cpus": 0}, "cpus=0 is no amount")):
        with pytest.raises(BadSetting, match=told):
            Needs.of(words)


def test_engines_go_by_their_names():
    assert isinstance(engine_of(None, workers=3), Processes) and engine_of(None, workers=3).workers == 3
    engine: Engine = Processes(2)
    assert engine_of(engine) is engine
    for on, words, told in (
        ("dask", {}, "--on 'dask' is none of ray"),
        (None, {"resources": {"cpus": 1}}, "goes with --on ray or --on slurm"),
        ("ray", {"slurm": {"time": 1}}, "goes with --on slurm"),
    ):
        with pytest.raises(BadSetting, match=told):
            engine_of(on, **words)


@pytest.mark.parametrize(("on", "library"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_library_that_is_not_installed_is_named_with_its_extra(on, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadSetting, match=rf'{library}, which is not installed: pip install "lilliput\[{on}\]"'):
        engine_of(on)


def test_a_queue_is_asked_in_submitits_words_and_sbatchs():
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    words = {
        "cpus": "4",
        "gpus": "1",
        "memory_gib": "8",
        "time": "2:00:00",
        "partition": "long",
        "setup": "module load a",
    }
    assert Slurm({**QUEUE, **words, "array_parallelism": "16"}).parameters == {
        "name": "lilliput",
        "timeout_min": 120,
        "cpus_per_task": 4,
        "gpus_per_node": 1,
        "mem_gb": 8.0,
        "slurm_additional_parameters": {"partition": "long"},
        "slurm_array_parallelism": 16,
        "slurm_setup": ["module load a"],
    }
    for words, told in (
        ({"array": "1-3"}, "array is not to be chosen"),
        ({"gpus": 0.5}, "whole processors"),
        ({"cluster": "moon"}, "cluster=moon is none of slurm, local"),
    ):
        with pytest.raises(BadSetting, match=told):
            Slurm({**QUEUE, **words})


def test_a_machine_without_a_queue_says_so(monkeypatch, tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadSetting, match="there is no Slurm on this machine"):
        Slurm({"time": 1})


def test_a_study_is_one_array_of_the_queue(monkeypatch, tmp_path):
    """By an sbatch that only takes a number: what it is given is what a site's would be."""
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    for name, said in (("sbatch", "Submitted batch job 42"), ("srun", ""), ("sacct", "JobID|State|NodeList")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    words = {"time": "1-00:00:00", "partition": "long", "array_parallelism": 2, "gpus": 1}
    jobs = [(name, partial(mark, name)) for name in "abc"]
    for submitted in ("3 jobs submitted: 42 of slurm", "3 jobs of before are queued or run: they are followed"):
        said = []
        with monkeypatch.context() as patch:
            patch.setattr("lilliput.studies.engines.slurm.say", said.append)
            patch.setattr(signals, "_asked", 15)
            assert list(Slurm(words).run(jobs, partial(here, tmp_path), Board(), tmp_path)) == []
        assert said == [
            submitted,
            "the queue goes on with 3 jobs; the same command follows them; to end them: scancel 42",
        ]
    script = (tmp_path / "slurm" / "42_submission.sh").read_text()
    for line in ("array=0-2%2", "time=1440", "partition=long", "gpus-per-node=1", "cpus-per-task=1", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in script
    assert [(tmp_path / "slurm" / f"42_{number}_submitted.pkl").exists() for number in range(3)] == [True] * 3
