"""Jobs shared by processes: the same outcome as in turn, and a death that costs one job alone."""

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from lilliput import api
from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.system import machine
from lilliput.system.progress import Board
from tests.conftest import SMALL


def shop(folder):
    return {"folder": folder, "made_by": os.getpid()}


def leave_a_file(name, shop):
    (Path(shop["folder"]) / name).write_text(str(shop["made_by"]))
    return True


def fail(shop):
    raise RuntimeError("two\nlines")


def die(shop):
    os.kill(os.getpid(), signal.SIGKILL)


def time_passes(seconds, shop):
    time.sleep(seconds)
    return True


def add_rows(folder, name):
    for epoch in range(20):
        row = {"technique": name, "backbone": "b", "seed": 0, "epoch": epoch, "probe": "linear", "metric": "accuracy"}
        results.append(folder, [{**row, "value": 0.5}])


def test_two_processes_that_write_rows_at_once_lose_none(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_rows, args=(tmp_path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(results.read(tmp_path)) == 40


def tell_threads(shop):
    (Path(shop["folder"]) / "threads").write_text(str(torch.get_num_threads()))
    return False


def leave_after(shop):
    """A process that dies just after its job."""
    threading.Timer(0.3, os._exit, [3]).start()
    return True


def test_a_worker_that_dies_between_two_jobs_costs_no_others(tmp_path):
    jobs = [("last", leave_after), ("slow", partial(time_passes, 1.5)), ("c", partial(leave_a_file, "c"))]
    events = processes.side_by_side(jobs, partial(shop, tmp_path), 1, Board())
    finished = {}
    for event in events:
        if isinstance(event, processes.Finished):
            finished[event.name] = event
            time.sleep(1.0)  # by now the first worker is gone, and its next job is sent to nobody
    assert all(finished[name].error is None for name in ("last", "slow", "c")) and (tmp_path / "c").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_job_that_fails_or_dies_costs_itself_alone(workers, tmp_path):
    jobs = [("fails", fail), *((name, partial(leave_a_file, name)) for name in "abcd"), ("threads", tell_threads)]
    if workers:
        jobs.insert(1, ("dies", die))
        events = list(processes.side_by_side(jobs, partial(shop, tmp_path), workers, Board()))
    else:
        events = list(processes.in_turn(jobs, shop(tmp_path), Board()))
    started = [event.name for event in events if isinstance(event, processes.Started)]
    finished = {event.name: event for event in events if isinstance(event, processes.Finished)}
    assert list(dict.fromkeys(started)) == [name for name, _ in jobs] and set(finished) == set(started)
    assert finished["fails"].error == "two lines" and "RuntimeError" in finished["fails"].details
    assert sorted(name for name, event in finished.items() if event.error is None and event.worked) == list("abcd")
    assert not finished["threads"].worked
    makers = {(tmp_path / name).read_text() for name in "abcd"}
    if workers:
        assert "killed" in finished["dies"].error and started.count("dies") == processes.DEATHS
        assert str(os.getpid()) not in makers and makers
        assert int((tmp_path / "threads").read_text()) == max(1, machine.cores() // 2)
    else:
        assert makers == {str(os.getpid())}


def test_two_workers_leave_the_rows_that_one_leaves(scenes, tmp_path, monkeypatch):
    crews = []
    real = processes.side_by_side
    monkeypatch.setattr(processes, "side_by_side", lambda *all: (crews.append(all[2]), real(*all))[1])
    settings = {**SMALL, "epochs": 1, "width": 0.5, "techniques": ["rotnet", "simclr"], "backbones": ["shufflenet_v2"]}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(max(1, machine.cores() // 2))
        one, two = (api.study(scenes, tmp_path / str(n), workers=n, **settings) for n in (1, 2))
    finally:
        torch.set_num_threads(before)
    assert one[1] == two[1] == [] and crews == [2]
    columns = ["technique", "backbone", "epoch", "probe", "metric"]
    rows = [results.read(out).sort_values(columns).reset_index(drop=True) for out, _ in (one, two)]
    assert rows[0][[*columns, "value"]].equals(rows[1][[*columns, "value"]])
