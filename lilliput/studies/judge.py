"""A series of saved encoders x probes -> rows; and the baselines, judged alike."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from lilliput import catalog
from lilliput.data.store import Images
from lilliput.errors import BadData
from lilliput.probes import check_need, exams_for, sorted_out
from lilliput.studies import mistakes, results
from lilliput.studies.record import origins, read_unchecked
from lilliput.system import cost, records, signals
from lilliput.system.machine import commit, this_machine, versions
from lilliput.system.plan import Plan
from lilliput.system.records import json_digest, seal, write_json
from lilliput.training.encoders import load_encoder, planned
from lilliput.training.record import LOGGED, read_run
from lilliput.training.spending import whole_seconds
from lilliput.training.state import trusted_log

Row = dict[str, Any]


class Judgement(NamedTuple):
    """What a probe has found in an encoder."""

    values: list[tuple[str, float]]
    seconds: float
    flags: str
    mistakes: str


class Judge:
    """Labelled images and probes; remembers its judgements of an encoder, so that equal ones are judged once."""

    def __init__(
        self, name: str, train: Images, test: Images, probes: dict[str, dict[str, Any]], *, plan: Plan, data: str = ""
    ):
        """`probes`: name -> options. `data`: what the encoders were pretrained on, for the rows."""
        if not probes:
            raise BadData("no probe to judge by")
        for probe in probes:
            check_need(probe, catalog.probe(probe), train, test)
        self.name, self.train, self.test, self.probes, self.plan, self.data = name, train, test, probes, plan, data
        self.judgements: dict[tuple[str, str, int], Judgement] = {}
        self.commit = commit()
        self.traces: dict[str, dict] = {}
        self.circumstances = {
            "judge": name,
            "judge_digests": [train.digest, test.digest],
            **origins(train, test),
            "probes": probes,
            "plan": plan.as_dict(),
            "commit": self.commit,
            "versions": versions(),
            "machine": this_machine(),
            **catalog.own_files(probes=probes),
        }

    def rows(self, encoder: nn.Module, identity: Row, *, probes: list[str], seed: int, label: str) -> list[Row]:
        """One row per metric of each probe, `identity` (technique, backbone, epoch, costs ...) in all of them."""
        functions = {name: catalog.probe(name) for name in probes}
        encoder = self.plan.place(encoder)
        exams = exams_for(functions, encoder, self.train, self.test, plan=self.plan, seed=seed, label=label)
        weights = _digest(encoder)
        rows = []
        for name in probes:
            key = weights, name, seed
            if key not in self.judgements:
                began = time.perf_counter()
                found = sorted_out(functions[name](exams[name], **self.probes[name]))
                seconds, flags = time.perf_counter() - began, " ".join(found.flags)
                self.judgements[key] = Judgement(found.figures, seconds, flags, self._mistakes(found.taken))
            judgement = self.judgements[key]
            flagged = " ".join(filter(None, [identity.get("flagged", ""), judgement.flags]))
            own = self.rows_of({**identity, "flagged": flagged}, name, judgement.values, judgement.seconds)
            rows += [own[0] | {"mistakes": judgement.mistakes}, *own[1:]] if own else []
        return rows

    def _mistakes(self, taken: Tensor | None) -> str:
        return "" if taken is None else mistakes.written(taken.cpu().numpy(), self.test.labels)

    def trace(self, run: dict[str, Any]) -> str:
        """The name under which `keep` writes all that a row came from: the run's settings, and the circumstances."""
        content = {"run": run, "judged": self.circumstances}
        name = seal(content)[:12]
        self.traces[name] = content
        return name

    def keep(self, folder: Path, rows: list[Row]) -> None:
        """Into the folder's results.csv; what they came from first, into traces/."""
        (folder / "traces").mkdir(parents=True, exist_ok=True)
        for name in {row["trace"] for row in rows} - {path.stem for path in (folder / "traces").glob("*.json")}:
            write_json(folder / "traces" / f"{name}.json", self.traces[name])
        results.append(folder, rows)

    def rows_of(self, identity: Row, probe: str, values: list[tuple[str, float]], seconds: float) -> list[Row]:
        """All that a probe gave, (metric, value), as rows."""
        same = {
            **identity,
            "probe": probe,
            "data": self.data,
            "judge": self.name,
            "image_size": self.train.image_size,
            "probe_seconds": round(seconds, 3),
            "commit": self.commit or "",
            "rows": len(values),
        }
        return [{**same, "metric": metric, "value": value} for metric, value in values]


def told_apart(folder: Path, name: str, digests: list[str]) -> str:
    """The name for rows of the judge whose images have these digests, in a folder that may hold rows of others.

    That of its own rows there, whatever the images' folder was called; else `name`, with the start of a digest of
    its images where others have it.
    """
    known: dict[str, list[str]] = {}
    for judge, trace in results.read(folder)[["judge", "trace"]].drop_duplicates().itertuples(index=False):
        judged = read_unchecked(folder / "traces" / f"{trace}.json").get("judged")
        if isinstance(judged, dict):  # rows of old do not tell what judged them: then by the name alone
            known[judge] = judged.get("judge_digests", digests)
    own = [judge for judge, theirs in known.items() if theirs == digests]
    return own[0] if own else f"{name}-{json_digest(digests)[:6]}" if name in known else name


def judge_run(folder: Path, judge: Judge, *, at: list[int] | None = None, done=frozenset()) -> Iterator[list[Row]]:
    """Rows of every saved encoder of a run (or of those of the epochs `at`), checkpoint by checkpoint.

    `done`: pairs (epoch, probe) that need no judging. Probes that judge only the last checkpoint do so unless `at`.
    """
    record = read_run(folder)
    rows = trusted_log(folder)
    log = {row["epoch"]: row for row in rows}
    saved = planned(folder, record, rows)
    if at and not set(at) <= set(saved):
        raise BadData(f"{folder} has no encoder of epoch {min(set(at) - set(saved))}; it has {list(saved)}")
    lost = []
    for epoch, path in saved.items():
        wanted = [
            probe
            for probe in judge.probes
            if (epoch, probe) not in done and (epoch in at if at else judges_all(probe) or epoch == max(saved))
        ]
        if not wanted:
            continue
        signals.check(f"{folder.name}: stopped before the encoder of epoch {epoch} was judged")
        if epoch and epoch not in log:
            raise BadData(f"{folder}/log.jsonl lacks epoch {epoch}; the command that pretrained it restores the log")
        if epoch:
            records.of_kinds(log[epoch], LOGGED, folder / "log.jsonl")
        try:
            encoder = load_encoder(path)
        except BadData as error:
            lost.append(str(error))
            continue
        identity = {
            **{key: record[key] for key in ("technique", "backbone", "seed", "recipe")},
            "epoch": epoch,
            "init": record.get("init") or "",
            **costs(record, log.get(epoch)),
            "flagged": " ".join(map(str, log.get(epoch, {}).get("flags", []))),
            "trace": judge.trace(record),
        }
        label = f"{record['technique']} {record['backbone']} epoch {epoch}"
        yield judge.rows(encoder, identity, probes=wanted, seed=record["seed"], label=label)
    if lost:
        raise BadData(
            f"{'; '.join(lost)}: the other encoders are judged; to have it again, move {folder} away and run the same "
            f"command"
        )


def judges_all(probe: str) -> bool:
    """Whether a probe judges all checkpoints, or is so dear that it judges the last alone."""
    return getattr(catalog.module("probes", probe), "checkpoints", "all") == "all"


def costs(record: dict, row: dict | None) -> Row:
    """The cost columns of a run at an epoch, that of its teacher included; zero before the first."""
    sizes = {key: record[key] for key in ("parameters", "multiply_adds", "multiply_adds_224")}
    if row is None:
        return {**sizes, "seconds": 0.0, "kwh": 0.0, "grams_co2": 0.0, "grams_co2_ml_impact": 0.0}
    taught = record.get("teacher_spent", {})
    row = {**row, **{name: whole_seconds(row)[name] + spent for name, spent in taught.items()}}
    return {
        **sizes,
        "seconds": round(row["total_seconds"], 3),
        "images_per_s": round(row["images_per_s"], 2),
        "peak_memory_mib": round(row["peak_memory_mib"], 1),
        "kwh": row["kwh"],
        "grams_co2": row["grams_co2"],
        "grams_co2_ml_impact": cost.ml_impact_grams(whole_seconds(row)["machine_seconds"]),
    }


class Pixels(nn.Module):
    """The baseline that has learned nothing: an image's 8 x 8 thumbnail as its features."""

    dim = 3 * 8 * 8

    def forward(self, images):
        return self.stages(images)[0].flatten(1)

    def stages(self, images):
        """The thumbnail, with its places."""
        return [F.interpolate(images, (8, 8), mode="area")]


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256(type(module).__name__.encode())
    for key, value in module.state_dict().items():
        digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
