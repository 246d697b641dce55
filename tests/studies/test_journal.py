import io
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from lilliput.studies import journal, results
from lilliput.studies.engines.processes import Finished, Started
from lilliput.studies.jobs import Job, _in_rounds
from lilliput.studies.journal import Journal, pace, until_all_end
from lilliput.system import progress
from tests.studies.conftest import row

TECHNIQUES, BACKBONES = ("rotnet", "simclr", "byol", "moco_v2"), ("resnet18", "squeezenet", "shufflenet_v2")
PRICES = dict(zip(TECHNIQUES, (4.0, 2.0, 3.0, 2.5), strict=True)) | {"supervised": 1.0}
SIZES = dict(zip(BACKBONES, (5.0, 2.0, 1.0), strict=True))


def test_a_kind_that_was_not_seen_costs_what_its_technique_and_its_backbone_do():
    kinds = list(product(TECHNIQUES, BACKBONES))
    took = {kind: [PRICES[kind[0]] * SIZES[kind[1]]] for kind in kinds if kind != ("rotnet", "resnet18")}
    assert pace(took)(("rotnet", "resnet18")) == pytest.approx(20, rel=0.1)


def test_of_what_nothing_is_known_the_mean_is_expected():
    assert pace({("simclr", "resnet18"): [4.0], ("byol", "squeezenet"): [9.0]})(("new", "new")) == pytest.approx(6.0)


def test_who_is_free_takes_the_next():
    assert until_all_end([], [3.0, 2.0, 2.0], 2) == 4.0  # 3 and 2, then 2 by the one that had 2
    assert until_all_end([5.0, 1.0], [1.0, 1.0], 2) == 5.0
    assert until_all_end([], [], 2) == 0.0


def cells(seeds=(0,)):
    grid = product(seeds, BACKBONES, TECHNIQUES)
    return [SimpleNamespace(seed=seed, backbone=backbone, technique=technique) for seed, backbone, technique in grid]


def test_every_technique_and_backbone_is_met_before_any_pair_waits_long_and_none_is_lost():
    ordered = _in_rounds(cells(seeds=(3, 1)))
    assert sorted(map(str, ordered)) == sorted(map(str, cells(seeds=(3, 1))))
    assert [cell.seed for cell in ordered] == [3] * 12 + [1] * 12
    first = ordered[: max(len(TECHNIQUES), len(BACKBONES))]
    assert {cell.backbone for cell in first} == set(BACKBONES)
    assert {cell.technique for cell in first} >= set(TECHNIQUES[:3])


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(journal.time, "perf_counter", lambda: now.seconds)
    return now


def written(tmp_path, jobs, workers=2):
    return Journal(tmp_path, SimpleNamespace(probes={"linear": {}}), jobs, workers)


def jobs():
    baselines = [Job(f"supervised-{backbone}-0", "supervised", backbone, bool) for backbone in BACKBONES]
    own = [Job(f"{c.technique}-{c.backbone}-0", c.technique, c.backbone, bool) for c in _in_rounds(cells())]
    return baselines + own


def test_the_time_left_is_right_within_a_quarter_from_the_middle_on(tmp_path, clock):
    draw = np.random.default_rng(0)
    todo, running = jobs(), []
    book, told = written(tmp_path, todo), []
    while todo or running:
        while todo and len(running) < 2:
            job = todo.pop(0)
            book.note(Started(job.name))
            seconds = PRICES[job.technique] * SIZES[job.backbone] * draw.uniform(0.85, 1.15)
            running.append((clock.seconds + seconds, seconds, job))
        if book.took:
            told.append((clock.seconds, book.left()))
        running.sort(key=lambda entry: entry[0])
        clock.seconds, seconds, job = running.pop(0)
        book.note(Finished(job.name, True, seconds))
    end = clock.seconds
    from_the_middle = [(left, end - now) for now, left in told if now > end / 2]
    assert len(from_the_middle) >= 5
    assert all(left == pytest.approx(truth, rel=0.25, abs=1.5) for left, truth in from_the_middle)


def test_the_live_table_has_what_is_done_what_runs_and_what_waits(tmp_path, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(progress, "CONSOLE", Console(file=shown, force_terminal=True, width=120))
    todo = jobs()
    book = written(tmp_path, todo)
    book.note(Started("rotnet-resnet18-0"))
    own = {"technique": "rotnet", "backbone": "resnet18", "probe": "linear"}
    results.append(tmp_path, [row(epoch=0, value=0.125, **own), row(epoch=5, value=0.625, **own)])
    book.note(Finished("rotnet-resnet18-0", True, 3.0))
    book.note(Started("simclr-squeezenet-0"))
    book.board.hear(7, ("simclr squeezenet", 3, 10))
    book.board.live.refresh()
    book.board.close()
    said = shown.getvalue()
    table = said[said.rindex("linear, last checkpoint: 1 of 15 done") :]
    assert "0.625" in table and "0.125" not in table
    assert "running" in next(line for line in table.splitlines() if "simclr" in line)
    assert "3/10" in table


def test_lines_say_how_much_is_left_once_it_is_known(tmp_path, clock, capsys):
    todo = jobs()
    book = written(tmp_path, todo)
    for job in todo[:4]:
        book.note(Started(job.name))
        clock.seconds += 10
        book.note(Finished(job.name, True, 10.0))
    lines = capsys.readouterr().err.splitlines()
    assert "left" not in lines[2] and "[4/15]" in lines[3] and "1 min 00 s left" in lines[3]


def test_the_table_may_be_drawn_while_jobs_begin_and_end(tmp_path, clock):
    book = written(tmp_path, jobs())
    book.took = {("simclr", "resnet18"): [1.0] * journal.KNOWN_FROM}
    book.running = dict.fromkeys(list(book.jobs)[:4], 0.0)

    class Ends(dict):
        """Another thread's change, in the midst of the estimate."""

        def __getitem__(self, name):
            book.running.pop(name, None)
            book.queued.pop(name, None)
            return super().__getitem__(name)

    book.jobs = Ends(book.jobs)
    assert book.left() > 0
