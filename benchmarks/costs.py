"""What each cell of a study costs alone: seconds, energy and grams of CO2, nothing else running.

python -m benchmarks.costs STUDY --data DIR [--images 960] [--techniques NAME ...] [--backbones NAME ...] [--again]

A study's own figures are those of the machine as it was, with whatever ran beside. Here each of its techniques on each
of its networks is trained by the study's recipe and options on so many of its images for four epochs, each pair by a
process of its own with the command's memory settings, by the plan that is fastest on this machine. The quickest epoch
after the first, at the run's mean power, is scaled to all images and epochs of the study. STUDY/costs.csv keeps the
rows. A pair that it has is measured again with --again alone, and the quicker row is kept: what disturbs a machine that
does nothing else, such as other guests of its host, only slows it. Prints all as a table. Waits while the machine is at
other work.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.idle import wait_until_idle
from benchmarks.speeds import machine
from benchmarks.throughput import environment
from lilliput import api
from lilliput.reports.words import title
from lilliput.system.machine import commit
from lilliput.system.records import read_json
from lilliput.training.record import read_log, read_run

EPOCHS = 4  # of which the first warms up
ENERGY = ("kwh", "grams_co2")  # counted from a run's beginning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, metavar="STUDY")
    parser.add_argument("--data", required=True, help="the study's data")
    parser.add_argument("--images", type=int, default=960, help="to train on in an epoch")
    parser.add_argument("--techniques", nargs="+", help="instead of the study's")
    parser.add_argument("--backbones", nargs="+", help="instead of the study's")
    parser.add_argument("--again", action="store_true", help="measure once more what is there, and keep the quicker")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    study, path = read_json(options.study / "study.json"), options.study / "costs.csv"
    pairs = list(itertools.product(options.techniques or study["techniques"], options.backbones or study["backbones"]))
    if options.one:
        print(json.dumps(cost_of(study, *pairs[0], options.data, options.images)))
        return
    known = pd.read_csv(path).to_dict("records") if path.exists() else []
    rows = {(row["technique"], row["backbone"]): row for row in known}
    for technique, backbone in pairs:
        if options.again or (technique, backbone) not in rows:
            wait_until_idle()
            row = _in_own_process(technique, backbone, options)
            rows[technique, backbone] = quicker(rows.get((technique, backbone)), row)
            pd.DataFrame(list(rows.values())).to_csv(path, index=False)
            print(row, flush=True)
    print(table(list(rows.values())))


def quicker(known: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """Of two rows of a pair; the later one where they are of two machines or versions, which are not to be mixed."""
    alike = known is not None and all(known.get(name) == row[name] for name in ("machine", "commit"))
    return known if known is not None and alike and known["seconds"] < row["seconds"] else row


def _in_own_process(technique: str, backbone: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.costs", str(options.study), "--data", options.data, "--one"]
    command += ["--techniques", technique, "--backbones", backbone, "--images", str(options.images)]
    done = subprocess.run(command, env=environment("ours"), stdout=subprocess.PIPE, check=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def cost_of(study: dict[str, Any], technique: str, backbone: str, data: str, images: int) -> dict[str, Any]:
    """A row: the quickest epoch after the first, scaled to the whole pretraining."""
    settings = {name: study[name] for name in ("image_size", "recipe", "country")}
    settings |= study["options"].get(technique, {}) | study["backbone_options"].get(backbone, {})
    batch = study["recipes"][technique]["batch"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        api.pretrain(technique, backbone, data, out, limit=images, epochs=EPOCHS, every=EPOCHS, batch=batch, **settings)
        log, plan = read_log(out), read_run(out)["plan"]
    best = max(log[1:], key=lambda epoch: epoch["images_per_s"])
    seen = best["seconds"] * best["images_per_s"]
    times = study["pool_images"] * study["epochs"] / seen
    spent = log[-1]["total_seconds"] - log[0]["total_seconds"]
    energy = {name: (log[-1][name] - log[0][name]) / spent * best["seconds"] * times for name in ENERGY}
    return {
        "technique": technique,
        "backbone": backbone,
        "precision": plan["precision"],
        "threads": plan["threads"],
        "images_per_s": best["images_per_s"],
        "seconds": best["seconds"] * times,
        **energy,
        "peak_memory_mib": log[-1]["peak_memory_mib"],
        "machine": machine(),
        "commit": commit(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown, of the whole pretraining."""
    lines = ["| technique | network | images/s | minutes | Wh | g CO2 | MiB |", "| --- | --- " + "| ---: " * 5 + "|"]
    for row in sorted(rows, key=lambda row: (row["backbone"], row["seconds"])):
        figures = [row["images_per_s"], row["seconds"] / 60, 1000 * row["kwh"], row["grams_co2"]]
        texts = [f"{value:.1f}" for value in figures] + [f"{row['peak_memory_mib']:.0f}"]
        lines.append(f"| {title(row['technique'])} | {row['backbone']} | {' | '.join(texts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
