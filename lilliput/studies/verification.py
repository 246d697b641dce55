"""Can the figures be believed: every file by its digest, and a sample of rows computed anew from the saved encoders."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lilliput import catalog
from lilliput.data.store import Images
from lilliput.errors import BadData, LilliputError
from lilliput.studies import results
from lilliput.studies.judge import Judge, judge_run
from lilliput.studies.record import JUDGED, judging_images
from lilliput.system import records
from lilliput.system.machine import this_machine, versions
from lilliput.system.plan import KINDS, like, own_threads
from lilliput.system.progress import say, task
from lilliput.system.records import read_json
from lilliput.system.tensors import read_tensors
from lilliput.tracking import FOLDER as TRACKING
from lilliput.training.cell import cell_name
from lilliput.training.encoders import planned, saved_encoders
from lilliput.training.record import read_run
from lilliput.training.state import trusted_log

ELSEWHERE = 0.01  # how far apart another machine or other versions may compute a value, or as far as so many
FLIPPED = 3  # images, guessed otherwise, bring an accuracy


class Checked(NamedTuple):
    """What was computed anew of one encoder by one probe."""

    what: str
    values: int
    worst: float  # the largest difference from what results.csv says
    allowed: float  # none on the row's own machine and device with its own versions

    @property
    def holds(self) -> bool:
        return self.worst <= self.allowed

    def __str__(self) -> str:
        if np.isinf(self.worst):
            return f"{self.what}: {self.values} values could not be computed anew"
        found = "the same" if self.worst == 0 else f"different by up to {self.worst:.4g}"
        where = f", elsewhere or by other versions, where {self.allowed:.2g} may be" if self.allowed else ""
        return f"{self.what}: {self.values} values computed anew, {found}{where}"


def damaged_files(folder: Path) -> tuple[int, list[str]]:
    """How many files a run or study has or should have, and of which there is something wrong: what it is."""
    kinds = ("*.safetensors", "*.json", "results.csv", "log.jsonl")
    files = sorted(path for kind in kinds for path in folder.rglob(kind) if _is_ours(path.relative_to(folder).parts))
    wrong, lost, published = [], [], without_encoders(folder)
    with task("checking files", len(files)) as advance:
        for path in files:
            try:
                if path.suffix == ".safetensors":
                    read_tensors(path)
                elif path.suffix == ".json":
                    read_json(path)
                    if path.name == "run.json" and not path.with_name("log.jsonl").exists():
                        lost.append(f"{path.with_name('log.jsonl')} is missing: the same command restores it")
                elif path.name == "log.jsonl":
                    lost += [] if published else _lost(path.parent)
                elif damaged := results.damaged_lines(path):
                    wrong.append(f"{path} is damaged in {len(damaged)} lines, the first is {damaged[0]}")
                elif torn := results.torn(results.read(path.parent)):
                    wrong.append(f"{path} lacks rows of {torn[0]}" + f" and {len(torn) - 1} others" * (len(torn) > 1))
            except LilliputError as error:
                wrong.append(str(error))
            advance(1)
    return len(files) + len(lost), [*wrong, *lost]


def without_encoders(folder: Path) -> bool:
    """Whether this is a study of which the rows were kept and no weights, as it is published."""
    rows, weights = (folder / "results.csv").exists(), folder.glob("cells/*/*.safetensors")
    return (folder / "study.json").exists() and rows and not any(weights)


def _is_ours(parts: tuple[str, ...]) -> bool:
    """Not other people's, nor what a mirror notes of its store."""
    return TRACKING not in parts and not any(part.startswith(".") for part in parts)


def _lost(run: Path) -> list[str]:
    """What a run's log tells of and is not there; BadData where the log is not that of its state."""
    wanted = planned(run, read_run(run), trusted_log(run))
    return [f"{path} is missing: its rows cannot be computed anew" for path in wanted.values() if not path.exists()]


def recomputed(
    folder: Path, *, sample: int, seed: int = 0, judging: tuple[Images, Images] | None = None
) -> Iterator[Checked]:
    """So many encoders of a run or study, drawn by chance, each judged anew by one of the probes that judged it.

    `judging`: the labelled images, where they are not prepared here any more. Raises BadData where there are none, or
    they are others.
    """
    rows = results.read(folder)
    groups = [(run, own) for cell, own in rows.groupby([*results.KEY[:5], "judge"]) if (run := _run_of(folder, cell))]
    if not groups and without_encoders(folder):
        raise BadData(
            f"{folder} was kept without its encoders, so no row can be computed anew from them: "
            f"`lilliput verify {folder} --data DATA --again 5` trains five of its cells anew and compares"
        )
    if not groups:
        raise BadData(f"{folder} has no rows of saved encoders")
    for number in np.random.default_rng(seed).permutation(len(groups))[:sample]:
        run, own = groups[number]
        with own_threads():
            checked = _recomputed(folder, run, own, judging)
        yield checked


def _run_of(folder: Path, cell: tuple) -> Path | None:
    """Where the encoder of (technique, backbone, seed, ...) lies."""
    technique, backbone, seed = cell[:3]
    run = folder if (folder / "run.json").exists() else folder / "cells" / cell_name(technique, backbone, seed)
    return run if cell[3] in saved_encoders(run) else None


def _recomputed(folder: Path, run: Path, own: pd.DataFrame, judging: tuple[Images, Images] | None) -> Checked:
    first = own.iloc[0]
    if not first.trace:
        raise BadData(f"the rows of {folder} are of an older Lilliput and do not say how they were judged")
    path = folder / "traces" / f"{first.trace}.json"
    judged = records.of_kinds(read_json(path), {"judged": JUDGED}, path)["judged"]
    if first.probe not in judged["probes"]:
        raise BadData(f"{path} is not of these rows: it tells nothing of the probe {first.probe}")
    catalog.check_known(judged)
    train, test = judging_images(judged, judging)
    plan = like(judged["plan"], names=KINDS)
    plan.take_effect()
    again = Judge(first.judge, train, test, {first.probe: judged["probes"][first.probe]}, plan=plan, data=first.data)
    try:
        values = {row["metric"]: row["value"] for rows in judge_run(run, again, at=[int(first.epoch)]) for row in rows}
    except BadData as error:
        say(str(error))
        values = {}
    old = dict(zip(own.metric, own.value, strict=True))
    what = f"{first.technique} {first.backbone} seed {first.seed} epoch {first.epoch} {first.probe}"
    here = versions(), this_machine()["processor"], plan.device
    if (judged["versions"], judged["machine"]["processor"], judged["plan"]["device"]) == here:
        return Checked(what, len(old), _worst(old, values), 0.0)
    old, values = ({name: some[name] for name in some if _of_all(name)} for some in (old, values))
    return Checked(what, len(old), _worst(old, values), max(ELSEWHERE, FLIPPED / len(test)))


def _of_all(metric: str) -> bool:
    """Whether a value is of all test images, and not of a class or of the few that were held out."""
    return "/" not in metric and not metric.startswith("held_out")


def _worst(old: dict[str, float], new: dict[str, float]) -> float:
    """The largest difference, of a value above 1 as a share; infinite where one is missing, or no number in one."""
    if set(old) != set(new):
        return np.inf
    apart = [
        0.0 if np.isnan(value) and np.isnan(new[name]) else abs(value - new[name]) / max(1.0, abs(value))
        for name, value in old.items()
    ]
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def verify(folder: Path, *, sample: int, seed: int = 0, judging: tuple[Images, Images] | None = None) -> bool:
    """Say what was checked and found; whether all of it holds."""
    if not any((folder / name).exists() for name in ("run.json", "study.json")):
        raise BadData(f"{folder} is the folder of neither a run nor a study")
    count, wrong = damaged_files(folder)
    for line in wrong:
        say(line)
    print(f"{count - len(wrong)} of {count} files are what was written")
    checked = []
    for result in recomputed(folder, sample=sample, seed=seed, judging=judging):
        print(result, flush=True)
        checked.append(result)
    held = sum(result.holds for result in checked)
    print(f"{held} of {len(checked)} hold")
    return held == len(checked) and not wrong
