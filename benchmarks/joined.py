"""One study of several that are its parts: cells that ran apart, on machines that share no disk.

python -m benchmarks.joined PART [PART ...] --out STUDY [--leave-out TECHNIQUE-BACKBONE-SEED ...]

Their settings must be the same in all that a study may not add to. Rows, records of the runs and their logs go into
STUDY, encoders do not; of rows that two parts have the later part's count. A STUDY that is there is the first part.
`lilliput report STUDY` draws it.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT = ("run.json", "log.jsonl")  # of each cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="+", type=Path, metavar="PART", help="the folder of a study")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="CELL", help="cells whose rows do not count")
    options = parser.parse_args()
    there = [options.out] if (options.out / "study.json").exists() else []
    cells = join([*there, *options.parts], options.out, without=options.leave_out)
    print(f"{options.out}: {cells} cells and baselines of {len(options.parts) + len(there)} studies")


def join(parts: Sequence[Path], out: Path, *, without: Sequence[str] = ()) -> int:
    """Write in `out` the study that the parts make, and return the number of its cells and baselines.

    BadSetting names what differs between two parts, before anything is written.
    """
    import pandas as pd

    from lilliput.studies import results
    from lilliput.system.records import write_json
    from lilliput.training.cell import cell_name

    record = joined_records(parts)
    rows = pd.concat([results.read(part) for part in parts], ignore_index=True)
    names = [cell_name(*cell) for cell in rows[results.CELL].itertuples(index=False)]
    rows = rows[[name not in without for name in names]].drop_duplicates(results.KEY, keep="last")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", record)
    (out / "results.csv").unlink(missing_ok=True)
    results.append(out, rows.to_dict("records"))
    for part in parts:
        if part != out:
            _keep_records(part, out)
    return len(rows.groupby(results.CELL))


def joined_records(parts: Sequence[Path]) -> dict[str, Any]:
    """What study.json says of all of them: the first's, grown by the others', and under what circumstances they ran."""
    from lilliput.studies.record import BEGUN, grown, read_study

    own = ("sha256", "contrastive", "plans", "went_on", *BEGUN)
    record: dict[str, Any] = {}
    for part in parts:
        other = read_study(part)
        ran = [{name: other[name] for name in BEGUN}, *other.get("went_on", [])]
        if not record:
            record = {name: value for name, value in other.items() if name not in ("sha256", "went_on")}
        else:
            settings = {name: value for name, value in other.items() if name not in own}
            known = {name: {**other[name], **record[name]} for name in ("contrastive", "plans")}
            record = {**grown(record, settings, part), **known}
        begun = {name: record[name] for name in BEGUN}
        went_on = record.get("went_on", [])
        record["went_on"] = went_on + [then for then in ran if then not in (begun, *went_on)]
    return record


def _keep_records(part: Path, out: Path) -> None:
    for file in (file for name in KEPT for file in part.glob(f"cells/*/{name}")):
        to = out / file.relative_to(part)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to)


if __name__ == "__main__":
    main()
