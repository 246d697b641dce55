"""Transfer: a run's encoder before several labelled data sets, what it started from and raw pixels beside it.

The linear probe on each, by the mean of its classes' accuracies, as in Kornblith, Shlens, Le, CVPR 2019,
https://arxiv.org/abs/1805.08974, and for encoders without labels Ericsson, Gouk, Hospedales, CVPR 2021,
https://arxiv.org/abs/2011.13377. Rows are kept in <run>/transfer/results.csv.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lilliput.errors import BadData
from lilliput.studies import results
from lilliput.studies.judge import Judge, Pixels, judge_run
from lilliput.training.encoders import saved_encoders
from lilliput.training.record import read_run

PIXELS: dict[str, Any] = {"technique": "pixels", "backbone": "", "seed": 0, "epoch": 0, "recipe": ""}


def transferred(run: Path, judges: Sequence[Judge]) -> pd.DataFrame:
    """A row for each judge, in their order, of mean per-class accuracies (0..1): a column for the run's last encoder,
    one for its first and one for pixels; and their means. What was judged before is not judged again."""
    record, saved = read_run(run), saved_encoders(run)
    if not saved:
        raise BadData(f"no encoder_*.safetensors in {run}; the command that pretrained it restores them")
    at, kept = sorted({0, max(saved)} & set(saved)), run / "transfer"
    for judge in judges:
        for rows in judge_run(run, judge, at=at, done=_done(kept, record["technique"], judge)):
            judge.keep(kept, rows)
        if not _done(kept, PIXELS["technique"], judge):
            identity = {**PIXELS, "trace": judge.trace(PIXELS)}
            judge.keep(kept, judge.rows(Pixels(), identity, probes=["linear"], seed=0, label="pixels"))
    names = [f"{record['technique']} {record['backbone']}, epoch {max(saved)}", record.get("init") or "random init"]
    columns = dict(zip([(record["technique"], max(saved)), (record["technique"], 0)], names, strict=True))
    return tabled(results.read(kept), [judge.name for judge in judges], {**columns, ("pixels", 0): "pixels"})


def tabled(rows: pd.DataFrame, judges: Sequence[str], columns: dict[tuple[str, int], str]) -> pd.DataFrame:
    """Of `columns`, (technique, epoch) -> title, for each judge the mean accuracy of its classes, and what it has."""
    by_class = rows[rows.metric.str.startswith("accuracy/")]
    means = by_class.groupby(["judge", "technique", "epoch"]).value.mean()
    pixels = rows[rows.technique == "pixels"]
    lines = {}
    for judge in dict.fromkeys(judges):
        own = pixels[pixels.judge == judge]
        lines[judge] = {
            "classes": own.metric.str.startswith("accuracy/").sum(),
            "test images": own[own.metric.str.startswith("confusion/")].value.sum(),
            **{title: means.get((judge, *key), math.nan) for key, title in columns.items()},
        }
    table = pd.DataFrame.from_dict(lines, orient="index")
    mean = table[list(columns.values())].mean().to_frame("mean").T
    return pd.concat([table, mean]).astype({"classes": "Int64", "test images": "Int64"})


def _done(kept: Path, technique: str, judge: Judge) -> set[tuple[int, str]]:
    """(epoch, probe) that need no judging."""
    rows = results.read(kept)
    return results.done(rows[(rows.technique == technique) & (rows.judge == judge.name)])
