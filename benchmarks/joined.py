"""One study of several that are its parts: cells that ran apart, on machines that share no disk.

python -m benchmarks.joined PART [PART ...] --out STUDY [--leave-out TECHNIQUE-BACKBONE-SEED ...]

Their settings must be the same in all that a study may not add to. Rows, records of the runs, their logs and traces go
into STUDY, encoders do not. A cell that several parts have is taken whole from the one that judged all that the others
did, of equal ones from the last. A STUDY that is there is the first part, and no process may be at work in it.
`lilliput report` draws it.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Taken(NamedTuple):
    """A cell's place: what the parts' rows say of it, and which part's count."""

    name: str
    part: Path
    judged: set[tuple[int, str]]  # epochs and probes
    rows: Any


def main() -> None:
    from lilliput.errors import LilliputError

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="+", type=Path, metavar="PART", help="the folder of a study")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="CELL", help="cells whose rows do not count")
    options = parser.parse_args()
    there = [options.out] if (options.out / "study.json").exists() else []
    try:
        cells = join([*there, *options.parts], options.out, without=options.leave_out)
    except LilliputError as error:
        raise SystemExit(f"joined: {error}") from None
    print(f"{options.out}: {cells} cells and baselines of {len(options.parts) + len(there)} studies")


def join(parts: Sequence[Path], out: Path, *, without: Sequence[str] = ()) -> int:
    """Write in `out` the study that the parts make, and return the number of its cells and baselines.

    BadSetting names what differs between two parts, BadData what is no study, before anything is written.
    """
    import pandas as pd

    from lilliput.errors import BadSetting
    from lilliput.studies import results
    from lilliput.system.records import write_json

    parts, out = list(dict.fromkeys(part.resolve() for part in parts)), out.resolve()
    if out.exists() and out not in parts and any(out.iterdir()):
        raise BadSetting(f"{out} is not empty and holds no study; choose another --out")
    record, taken = joined_records(parts), _cells(parts)
    if unknown := sorted(set(without) - set(taken)):
        raise BadSetting(f"--leave-out {unknown[0]} is none of {', '.join(sorted(taken))}")
    kept = [cell for name, cell in taken.items() if name not in without]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as draft:
        results.append(draft, pd.concat([cell.rows for cell in kept], ignore_index=True).to_dict("records"))
        os.replace(Path(draft) / "results.csv", out / "results.csv")
    for name in without:
        shutil.rmtree(out / "cells" / name, ignore_errors=True)
    for cell in kept:
        _keep_run(cell.part / "cells" / cell.name, out / "cells" / cell.name)
    for trace in (trace for part in parts for trace in part.glob("traces/*.json")):
        _copy(trace, out / "traces" / trace.name)
    write_json(out / "study.json", record)
    return len(kept)


def joined_records(parts: Sequence[Path]) -> dict[str, Any]:
    """What study.json says of all of them: the first's, grown by the others', and under what circumstances they ran."""
    from lilliput.studies.record import BEGUN, brought_up, grown, read_study
    from lilliput.system.progress import say
    from lilliput.training.record import FORMAT

    own = ("sha256", "contrastive", "plans", "went_on", *BEGUN)
    record: dict[str, Any] = {}
    for part in parts:
        other = brought_up(read_study(part), part)
        ran = [{name: other.get(name) for name in BEGUN}, *other.get("went_on", [])]
        if not record:
            record = {name: value for name, value in other.items() if name not in ("sha256", "went_on")}
        else:
            _check_files(record, other, part)
            settings = {name: value for name, value in other.items() if name not in own}
            known = {name: {**other.get(name, {}), **record.get(name, {})} for name in ("contrastive", "plans")}
            for backbone, plan in other.get("plans", {}).items():
                if plan != known["plans"][backbone]:
                    say(f"{backbone} ran by another plan in {part} ({plan}); study.json tells the first part's")
            record = {**grown(record, settings, parts[0]), **known}
        begun = {name: record.get(name) for name in BEGUN}
        went_on = record.get("went_on", [])
        record["went_on"] = went_on + [then for then in ran if then not in (begun, *went_on)]
    return {**record, "format": FORMAT}


def _check_files(record: dict[str, Any], other: dict[str, Any], part: Path) -> None:
    """BadSetting where a technique, backbone or probe of somebody's own is not the same text in both."""
    from lilliput.errors import BadSetting

    ours, theirs = record.get("own_files", {}), other.get("own_files", {})
    for name in ours.keys() & theirs.keys():
        if ours[name]["sha256"] != theirs[name]["sha256"]:
            raise BadSetting(f"{part} was made with another text of {name} than the parts before it")


def _cells(parts: Sequence[Path]) -> dict[str, Taken]:
    """Name -> the part that has most of that cell or baseline; BadSetting where two have each what the other lacks."""
    from lilliput.errors import BadSetting
    from lilliput.studies import results
    from lilliput.training.cell import cell_name

    found: dict[str, list[Taken]] = {}
    for part in parts:
        for (technique, backbone, seed), rows in results.read(part).groupby(results.CELL):
            name = cell_name(technique, backbone, seed)
            found.setdefault(name, []).append(Taken(name, part, results.done(rows), rows))
    taken = {}
    for name, cells in found.items():
        most = cells[0]
        for cell in cells[1:]:
            most = cell if cell.judged >= most.judged else most
        taken[name] = most
        for cell in cells:
            if not cell.judged <= most.judged:
                here, there = (_first_of(a.judged - b.judged) for a, b in ((most, cell), (cell, most)))
                raise BadSetting(
                    f"{name} was judged at {here} in {most.part} and not in {cell.part}, at {there} the other way "
                    f"round: judge the rest in one of them, or give parts of which one has no such cell"
                )
    return taken


def _first_of(judged: set[tuple[int, str]]) -> str:
    epoch, probe = min(judged)
    return f"epoch {epoch} by {probe}"


def _keep_run(run: Path, to: Path) -> None:
    """Its log, and its record but for the command, which names folders of its machine."""
    from lilliput.system.records import read_json, write_json

    _copy(run / "log.jsonl", to / "log.jsonl")
    if run != to and (run / "run.json").exists():
        to.mkdir(parents=True, exist_ok=True)
        told = read_json(run / "run.json")
        write_json(to / "run.json", {name: value for name, value in told.items() if name not in ("command", "sha256")})


def _copy(file: Path, to: Path) -> None:
    if file.exists() and file != to:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to)


if __name__ == "__main__":
    main()
