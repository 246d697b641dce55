"""The search: rungs of a ladder, each a call of an ordinary study; what is left of the time; the baselines."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lilliput.advice import scores
from lilliput.advice.budget import OVER, PLANNED, Pace, Schedule
from lilliput.advice.curves import Expected, expected
from lilliput.advice.halving import halve
from lilliput.advice.learned import learned
from lilliput.probes import split
from lilliput.studies import results
from lilliput.studies.engines import Engine
from lilliput.studies.grid import Grid
from lilliput.studies.study import study
from lilliput.system.progress import duration, say
from lilliput.system.records import read_json
from lilliput.training.cell import Cell
from lilliput.training.record import read_log
from lilliput.training.stopping import Until

BASELINES = ("pixels", "random_init", "supervised", "imagenet")


class OutOfTime(Exception):
    """The budget is used up; all that was trained is saved."""


class Search:
    """Of the cells of a grid in one study's folder, within `budget` seconds since the moment `began`."""

    def __init__(
        self,
        grid: Grid,
        out: Path,
        engine: Engine,
        schedule: Schedule,
        paces: Mapping[str, Pace],
        score: str,
        *,
        began: float,
        budget: float,
        afterwards: float,
    ):
        """`afterwards`: seconds that the baselines are thought to take, which are kept free for them."""
        self.grid, self.out, self.engine, self.schedule, self.paces = grid, out, engine, schedule, paces
        self.score, self.began, self.budget, self.afterwards = score, began, budget, afterwards
        self.cells = {cell.name: cell for cell in grid.cells}
        self.moment = began + budget - afterwards

    def run(self) -> None:
        """All of it. What a signal breaks off goes on when it is called again, with the same bits."""
        try:
            winner = halve(list(self.cells), self.schedule.rungs, self._train, self._read)
            say(f"halving is over: {winner} is ahead")
            self._go_on()
        except OutOfTime:
            say("the time for training is over; all of it is saved")
        self._judge_what_is_saved()
        compared = self._compare()
        self.moment = self.began + self.budget  # what the baselines left of their share
        self._go_on(on=compared.backbone)
        self._judge_what_is_saved()

    @property
    def rows(self) -> pd.DataFrame:
        """Of the study's own judge."""
        rows = results.read(self.out)
        return rows[rows.judge == read_json(self.out / "study.json")["judge"]]

    def reached(self, cell: Cell) -> int:
        """Whole epochs that it has trained."""
        log = read_log(self.out / "cells" / cell.name)
        return log[-1]["epoch"] if log else 0

    def ranking(self) -> list[Cell]:
        """The best first. Nobody that was dropped goes before who went on; of those that came as far, the accuracy
        that is expected counts, or where labels do not choose, who trained longer and then the score. What has no score
        comes last."""
        rows, by_labels = self.rows, self.score == scores.LABELS

        def place(cell: Cell) -> tuple[bool, int, int, float]:
            epoch = self.judged_at(cell)
            value = scores.read(self.out, rows, self.score, cell, epoch) if epoch else math.nan
            if not math.isfinite(value) or not by_labels:
                return math.isfinite(value), self.passed(cell), epoch, value
            return True, self.passed(cell), 0, self.expected(value, epoch).value

        return sorted(self.cells.values(), key=place, reverse=True)

    def passed(self, cell: Cell) -> int:
        """Rungs beyond which it has trained, whether or not it has been judged since."""
        return sum(rung.epoch < self.reached(cell) for rung in self.schedule.rungs)

    def judged_at(self, cell: Cell) -> int:
        """Its last checkpoint; 0 where it has only begun."""
        return self.reached(cell) // self.schedule.every * self.schedule.every

    def expected(self, held_out: float, epoch: int) -> Expected:
        """The accuracy at the end of a training that has this one on held-out images at a checkpoint."""
        return expected(held_out, epoch / self.schedule.epochs, self.held_out_images, learned()["ends"])

    @cached_property
    def held_out_images(self) -> int:
        train, _ = self.grid.labelled.judging
        return len(split(train.labels)[1])

    def _read(self, name: str, epoch: int) -> float:
        return scores.read(self.out, self.rows, self.score, self.cells[name], epoch)

    def _train(self, names: Sequence[str], epoch: int) -> None:
        """Those of a rung to its epoch; OutOfTime where not all of them got there."""
        say(f"{len(names)} of {len(self.cells)} candidates train to epoch {epoch} of {self.schedule.epochs}")
        failed = self._study([self.cells[name] for name in names], until=Until(epoch, self.moment))
        if any(self.reached(self.cells[name]) < epoch for name in names if name not in failed):
            raise OutOfTime

    def _study(self, cells: list[Cell], **changes: Any) -> list[str]:
        changes = {"baselines": (), **changes}
        return study(replace(self.grid, cells=cells, **changes), self.out, engine=self.engine)

    def _go_on(self, on: str | None = None) -> None:
        """With the best of those that were dropped, as far as the time goes; `on`: only with those on a backbone."""
        tried: set[str] = set()
        whole = {cell.name for cell in self.cells.values() if self.reached(cell) >= self.schedule.epochs}
        while todo := [
            cell for cell in self.ranking() if on in (None, cell.backbone) and cell.name not in whole | tried
        ]:
            cells = todo[: self.engine.workers]
            left = PLANNED * (self.moment - time.time())
            pace, every, judged = self.paces[cells[0].name], self.schedule.every, self.judged_at(cells[0])
            ahead = (self.reached(cells[0]) - judged) * pace.epoch  # is trained and was not judged yet
            checkpoints = int((left - pace.start + ahead) / (every * pace.epoch + pace.judging)) if left > 0 else 0
            if not checkpoints:
                return
            tried |= {cell.name for cell in cells}
            aim = min(self.schedule.epochs, judged + checkpoints * every)
            say(f"{duration(left)} are left: {', '.join(cell.name for cell in cells)} on to epoch {aim}")
            self._study(cells, until=Until(aim, self.moment))

    def _judge_what_is_saved(self) -> None:
        """A training that the clock broke off has checkpoints that nobody judged."""
        for cell in self.cells.values():
            if reached := self.reached(cell):
                known = scores.figures(self.rows, cell, *self._first_figure())
                if self.judged_at(cell) not in known:
                    self._study([cell], until=Until(reached))

    def _first_figure(self) -> tuple[str, str]:
        return scores.HELD_OUT if "linear" in self.grid.probes else ("geometry", "effective_rank")

    def _compare(self) -> Cell:
        """The pick beside baselines: only what can be judged, and what there is time for. Returns the pick."""
        pick = self.ranking()[0]
        labelled = "linear" in self.grid.probes
        baselines = BASELINES if labelled else tuple(name for name in BASELINES if name != "supervised")
        if time.time() + self.afterwards > self.began + OVER * self.budget:
            say("no time is left to train a network with labels for comparison")
            baselines = tuple(name for name in baselines if name != "supervised")
        self._study([pick], baselines=baselines, until=Until(self.reached(pick)))
        return pick
