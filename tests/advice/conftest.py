"""A search whose study is an actor: it writes rows and logs as a study would, and turns the clock."""

import json

import pytest

from lilliput.advice import search as searching
from lilliput.advice.budget import Pace, Schedule
from lilliput.advice.halving import rungs_of
from lilliput.advice.search import Search
from lilliput.api import make_cells
from lilliput.studies import results
from lilliput.studies.engines import Processes
from lilliput.studies.grid import Grid
from lilliput.studies.record import open_record


class Actor:
    """Plays `study`: a cell gains by its own rate with every epoch, which takes `seconds`, or as a function tells."""

    def __init__(self, clock, rates, seconds, fails=()):
        self.clock, self.rates, self.seconds, self.fails, self.calls = clock, rates, seconds, fails, []

    def __call__(self, grid, out, *, engine):
        until, failed = grid.until, []
        self.calls.append(([cell.name for cell in grid.cells], until.epoch, tuple(grid.baselines)))
        for cell in grid.cells:
            if cell.name in self.fails:
                failed.append(cell.name)
                continue
            folder = out / "cells" / cell.name
            folder.mkdir(parents=True, exist_ok=True)
            log = folder / "log.jsonl"
            done = len(log.read_text().splitlines()) if log.exists() else 0
            while done < until.epoch and not (until.moment and self.clock.now >= until.moment):
                done += 1
                self.clock.now += self.seconds
                with log.open("a") as file:
                    file.write(json.dumps({"epoch": done, "loss": 1 / done, "loss_of_guessing": 2.0}) + "\n")
            if done >= until.epoch:
                self._judge(grid, out, cell, done)
        return failed

    def _gain(self, cell, epoch):
        rate = self.rates[cell.name]
        return rate(epoch) if callable(rate) else rate * epoch

    def _judge(self, grid, out, cell, done):
        same = {"technique": cell.technique, "backbone": cell.backbone, "seed": cell.seed, "judge": grid.labelled.name}
        rows = [
            {**same, "epoch": epoch, "probe": "linear", "metric": metric, "value": 0.2 + self._gain(cell, epoch)}
            for epoch in range(0, done + 1, grid.every)
            for metric in ("accuracy", "held_out_accuracy")
        ]
        rows += [{**rows[0], "technique": name, "backbone": "", "value": 0.25} for name in grid.baselines]
        results.append(out, rows)


class Clock:
    """Of a search: so many seconds."""

    now = 1000.0


@pytest.fixture
def acted(scenes, tmp_path, monkeypatch):
    """(rates of the cells, budget, seconds an epoch, ...) -> the search, ready to run, its actor and its clock."""

    def make(rates, *, budget, seconds=1.0, every=2, fails=(), score="labels", afterwards=2.0):
        clock = Clock()
        rungs = rungs_of(4, every)
        settings = {"recipe": "small", "epochs": rungs[-1].epoch, "batch": 16, "options": {}}
        cells = make_cells(["rotnet", "simclr"], ["shufflenet_v2", "squeezenet"], [0], **settings)
        actor = Actor(clock, dict(zip([cell.name for cell in cells], rates, strict=True)), seconds, fails)
        monkeypatch.setattr(searching, "study", actor)
        monkeypatch.setattr(searching, "time", type("Time", (), {"time": staticmethod(lambda: clock.now)}))
        grid = Grid(cells, scenes, scenes, {"linear": {}, "knn": {}}, every, baselines=())
        open_record(grid, tmp_path / "s")
        paces = {cell.name: Pace(seconds, 0.0, 0.0) for cell in cells}
        timing = {"began": clock.now, "budget": budget, "afterwards": afterwards}
        found = Search(grid, tmp_path / "s", Processes(1), Schedule(every, rungs, 0.0), paces, score, **timing)
        return found, actor, clock

    return make
