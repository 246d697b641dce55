"""What every engine promises: the same list, run against all that are installed."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from lilliput import api
from lilliput.studies import results
from lilliput.studies.engines import Finished, Started
from lilliput.system import signals
from lilliput.system.progress import Board
from tests.conftest import SMALL, saved_bits
from tests.studies.engines.conftest import ALL, AWAY, MANY, ROOT, installed
from tests.studies.engines.duties import alone_in, die_once, fail, here, mark, until_asked, until_let_go, wait_for

COLUMNS = ["technique", "backbone", "seed", "epoch", "probe", "metric"]
CELL = {**SMALL, "techniques": ["rotnet"], "backbones": ["shufflenet_v2"], "baselines": ["pixels"], "probes": ["knn"]}

# Ray leaves sockets and files to the end of the process
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def finished(engine, jobs, folder):
    """Name -> what became of the job; each has ended once, after it was started."""
    with engine.opened():
        events = list(engine.run(jobs, partial(here, folder), Board(), folder))
    started = [event.name for event in events if isinstance(event, Started)]
    ended = [event.name for event in events if isinstance(event, Finished)]
    assert set(started) == {name for name, _ in jobs} and sorted(ended) == sorted(set(started))
    return {event.name: event for event in events if isinstance(event, Finished)}


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("place", ALL)
def test_a_job_that_fails_costs_itself_alone(place, request, tmp_path):
    ended = finished(installed(place, request), [("fails", fail), ("a", partial(mark, "a"))], tmp_path)
    assert ended["fails"].error == "two lines" and "RuntimeError" in ended["fails"].details
    assert ended["a"].error is None and ended["a"].worked and lines(tmp_path / "a") == 1


@pytest.mark.parametrize("place", MANY)
def test_a_job_whose_worker_is_killed_goes_to_another_which_goes_on(place, request, tmp_path, capsys):
    ended = finished(installed(place, request), [("dies", die_once)], tmp_path)
    assert ended["dies"].error is None and lines(tmp_path / "whole") == 1
    assert "goes on with it" in capsys.readouterr().err


@pytest.mark.parametrize("place", ALL)
def test_a_job_that_another_process_has_in_work_is_left_to_it(place, request, tmp_path):
    (tmp_path / "cell").mkdir()
    script = f"from pathlib import Path; from lilliput.system.locks import alone\nwith alone(Path({str(tmp_path)!r}) / "
    script += "'cell'): print('held', flush=True); input()"
    holder = [sys.executable, "-c", script]
    with subprocess.Popen(holder, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        ended = finished(installed(place, request), [("cell", partial(alone_in, "cell"))], tmp_path)
        process.communicate("\n")
    assert ended["cell"].elsewhere and not ended["cell"].worked and not (tmp_path / "taken").exists()


@pytest.fixture(scope="module")
def in_turn(scenes, tmp_path_factory):
    return api.study(scenes, tmp_path_factory.mktemp("turn") / "s", **CELL)[0]


def state_of(folder):
    """Every file of a study but those that a look touches."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    reports = {".png", ".svg", ".md"}
    return {path: path.stat().st_mtime_ns for path in files if path.suffix not in reports and path.name != "curves.csv"}


@pytest.mark.parametrize("place", MANY)
def test_a_study_has_the_rows_and_bits_of_one_in_turn_and_called_again_does_nothing(
    place, request, scenes, in_turn, tmp_path
):
    engine, out = installed(place, request), tmp_path / "s"
    assert api.study(scenes, out, on=engine, **CELL) == (out, [])
    rows = [results.read(folder).sort_values(COLUMNS).reset_index(drop=True) for folder in (in_turn, out)]
    assert rows[0][[*COLUMNS, "value"]].equals(rows[1][[*COLUMNS, "value"]]) and len(rows[0]) > 10
    cells = [folder / "cells" / "rotnet-shufflenet_v2-0" for folder in (in_turn, out)]
    assert saved_bits(cells[0]) == saved_bits(cells[1])
    before = state_of(out)
    assert api.study(scenes, out, on=engine, **CELL) == (out, [])
    changed = [path.name for path, when in state_of(out).items() if before.get(path) != when]
    assert set(changed) <= {"study.json"}


KILLED_DRIVER = """
import sys
from functools import partial
from pathlib import Path
from lilliput.studies.engines import engine_of
from lilliput.system.progress import Board
from tests.studies.engines import duties as tests
place, folder = sys.argv[1], Path(sys.argv[2])
engine = engine_of(place, slurm={"cluster": "local", "time": 10} if place == "slurm" else None)
with engine.opened():
    list(engine.run([("job", tests.until_let_go)], partial(tests.here, folder), Board(), folder))
"""


@pytest.mark.parametrize("place", AWAY)
def test_a_driver_that_was_killed_may_come_back(place, request, tmp_path):
    """The queue goes on meanwhile and is followed; Ray's tasks die with their driver, and are begun again."""
    engine = installed(place, request)
    command = [sys.executable, "-c", KILLED_DRIVER, place, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT) as driver:
        wait_for((tmp_path / "begun").exists)
        driver.kill()
    with engine.opened():
        events = engine.run([("job", until_let_go)], partial(here, tmp_path), Board(), tmp_path)
        assert next(events) == Started("job")
        (tmp_path / "go").touch()
        (ended,) = events
    assert ended.worked and ended.error is None
    assert lines(tmp_path / "begun") == {"slurm": 1, "ray": 2}[place]


def test_a_pre_empted_job_saves_and_takes_another_turn(request, tmp_path):
    engine = installed("slurm", request)
    events = engine.run([("job", until_asked)], partial(here, tmp_path), Board(), tmp_path)
    assert next(events) == Started("job")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR2)
    *again, ended = events
    assert again == [Started("job")] and ended.worked and not ended.stopped and lines(tmp_path / "whole") == 1


@pytest.mark.heavy
def test_a_signal_lets_a_task_of_ray_save(request, tmp_path, monkeypatch):
    engine = installed("ray", request)
    with engine.opened():
        jobs = [("job", until_asked), ("other", until_asked), ("waits", until_let_go)]
        events = engine.run(jobs, partial(here, tmp_path), Board(), tmp_path)
        next(events)
        wait_for((tmp_path / "pid").exists)
        monkeypatch.setattr(signals, "_asked", signal.SIGTERM)
        ended = {event.name: event for event in events if isinstance(event, Finished)}
    assert (tmp_path / "saved").exists() and ended["job"].stopped and "waits" not in ended
