"""Who tells the trackers: each row once, also where a run goes on, and whatever they raise is said and forgotten."""

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lilliput.errors import BadData, BadSetting, wanted
from lilliput.system.progress import say
from lilliput.system.records import read_json, write_json
from lilliput.tracking._tracker import About, Tracker

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")  # files here, and libraries and extras of the same names
FOLDER = "tracking"  # in a run's


def check(names: Sequence[str]) -> None:
    """BadSetting, naming the extra, where a tracker's library is not installed; or if there is no such tracker."""
    for name in names:
        if name not in TRACKERS:
            raise BadSetting(f"tracker {name!r} is none of {', '.join(TRACKERS)}")
        wanted(name, extra=name)


def forget(run: Path) -> None:
    """A run begins anew in this folder: so do those of its trackers."""
    for name in TRACKERS:
        (run / FOLDER / f"{name}.json").unlink(missing_ok=True)


@contextmanager
def followed(names: Sequence[str], run: Path, about: str, settings: dict[str, Any]) -> Iterator["Follower"]:
    """Within the block the named trackers follow the run in that folder, each where it stopped before."""
    follower = Follower(names, About(about, run / FOLDER, settings))
    try:
        yield follower
    finally:
        follower.close()


class Follower:
    """Trackers at work, and up to which epoch each has the log's rows."""

    def __init__(self, names: Sequence[str], about: About):
        self.about = about
        self.trackers: dict[str, Tracker] = {}
        self.told: dict[str, int] = {}
        for name in names:
            self._safely(name, self._open, name)

    def _open(self, name: str) -> None:
        self.about.folder.mkdir(exist_ok=True)
        before = self._before(name)
        make = importlib.import_module(f"lilliput.tracking.{name}").open_run
        self.trackers[name] = make(self.about, before.get("run"))
        self._mark(name, before.get("epoch", 0))

    def read(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The log as it stands: what a tracker has not heard yet is told."""
        for name in list(self.trackers):
            for row in rows:
                if row["epoch"] > self.told[name]:
                    self._safely(name, self._tell, name, row)

    def judged(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of results.csv of one encoder, those by class aside; each has been told nobody yet."""
        figures = {f"{row['probe']}/{row['metric']}": row["value"] for row in rows if "/" not in row["metric"]}
        for name, tracker in list(self.trackers.items()):
            self._safely(name, tracker.log, rows[0]["epoch"], _finite(figures))

    def close(self) -> None:
        for name, tracker in list(self.trackers.items()):
            self._safely(name, tracker.close)

    def _tell(self, name: str, row: Mapping[str, Any]) -> None:
        """The mark comes first: killed between the two, a run rather lacks a row there than has it twice."""
        if name in self.trackers:
            self._mark(name, row["epoch"])
            self.trackers[name].log(row["epoch"], _finite(row))

    def _mark(self, name: str, epoch: int) -> None:
        self.told[name] = epoch
        write_json(self.about.folder / f"{name}.json", {"run": self.trackers[name].run, "epoch": epoch})

    def _before(self, name: str) -> dict[str, Any]:
        path = self.about.folder / f"{name}.json"
        try:
            return read_json(path) if path.exists() else {}
        except BadData:  # then it begins anew there
            return {}

    def _safely(self, name: str, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # another library's, of any kind
            self.trackers.pop(name, None)
            reason = " ".join(str(error).split()) or "it does not say why"
            say(f"{self.about.name}: {name} hears no more of it ({type(error).__name__}: {reason:.300})")


def _finite(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a row; words, lists and what is unknown are no figures, and the epoch is told apart."""
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
    return {key: float(value) for key, value in numbers.items() if math.isfinite(value)}
