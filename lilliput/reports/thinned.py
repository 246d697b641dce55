"""What pruning took and cost: a run's encoder before, pruned, and recovered, in one table."""

import os
from pathlib import Path
from typing import Any

from lilliput.reports import markdown
from lilliput.reports.words import ABSENT, count, share
from lilliput.studies import results
from lilliput.training.encoders import saved_encoders
from lilliput.training.record import read_run

SIZES = ("parameters", "multiply_adds", "multiply_adds_224")


def thinned(before: str | os.PathLike, after: str | os.PathLike) -> str:
    """Of the folders of both runs, in Markdown: parameters, multiply-adds, and each probe's accuracy on test, by what
    judged the run after."""
    whole, thin = Path(before), Path(after)
    last, recovered = max(saved_encoders(whole)), max(saved_encoders(thin))
    rows = results.read(thin)
    accuracies = rows[rows["metric"] == "accuracy"]
    judge = accuracies["judge"].iloc[-1] if len(accuracies) else ""
    probes = list(dict.fromkeys(accuracies["probe"]))
    size = read_run(thin)["image_size"]
    header = ["encoder", "epoch", "parameters", f"multiply-adds, {size} px", "224 px", *probes]
    lines = [
        [what, str(epoch), *_sizes(read_run(folder)), *(_accuracy(folder, epoch, probe, judge) for probe in probes)]
        for what, folder, epoch in (("before", whole, last), ("pruned", thin, 0), ("recovered", thin, recovered))
    ]
    return markdown.table(header, lines)


def _sizes(record: dict[str, Any]) -> list[str]:
    return [ABSENT if record[name] is None else count(record[name]) for name in SIZES]


def _accuracy(folder: Path, epoch: int, probe: str, judge: str) -> str:
    rows = results.read(folder)
    wanted = {"epoch": epoch, "probe": probe, "judge": judge, "metric": "accuracy"}
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return share(rows["value"].iloc[-1]) if len(rows) else ABSENT
