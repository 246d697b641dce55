"""What pruning took and cost: a run's encoder before, pruned, and recovered, in one table."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from lilliput.reports import markdown
from lilliput.reports.words import ABSENT, count, share
from lilliput.studies import results
from lilliput.training.encoders import saved_encoders
from lilliput.training.record import read_run

SIZES = ("parameters", "multiply_adds", "multiply_adds_224")


def thinned(before: str | os.PathLike, after: str | os.PathLike) -> str:
    """Of the folders of both runs, in Markdown: parameters, multiply-adds, and accuracies on test, by what judged the
    second one last."""
    whole, thin = Path(before), Path(after)
    last, recovered = max(saved_encoders(whole)), max(saved_encoders(thin))
    found = _accuracies(thin)
    found = found[found["judge"] == found["judge"].iloc[-1]] if len(found) else found
    kinds = list(dict.fromkeys(zip(found["judge"], found["probe"], found["metric"], strict=True)))
    size = read_run(thin)["image_size"]
    names = [" ".join([probe, *metric.split("_")[1:]]) for _, probe, metric in kinds]
    lines = []
    for what, folder, epoch in (("before", whole, last), ("pruned", thin, 0), ("recovered", thin, recovered)):
        values = _accuracies(folder)
        values = values[values["epoch"] == epoch].set_index(["judge", "probe", "metric"])["value"]
        shares = [share(values[kind]) if kind in values.index else ABSENT for kind in kinds]
        lines.append([what, str(epoch), *_sizes(read_run(folder)), *shares])
    return markdown.table(["encoder", "epoch", "parameters", f"multiply-adds, {size} px", "224 px", *names], lines)


def _accuracies(folder: Path) -> pd.DataFrame:
    rows = results.read(folder)
    return rows[rows["metric"].str.startswith("accuracy") & ~rows["metric"].str.contains("/")]


def _sizes(record: dict[str, Any]) -> list[str]:
    return [ABSENT if record[name] is None else count(record[name]) for name in SIZES]
