"""What each cell of a study costs alone: seconds, energy and grams of CO2, nothing else running.

python -m benchmarks.costs STUDY --data DIR [--images 960] [--backbones NAME ...]

A study's own figures are those of the machine as it was, with whatever ran beside. Here each of its techniques on each
of its networks is trained by the study's recipe on so many of its images for four epochs, one after another, by the
plan that is fastest on this machine and with the command's own memory settings; the median of the last three is scaled
to all images and epochs of the study. STUDY/costs.csv keeps the rows; a pair that it has is not measured again. Prints
them as a table. Waits while the machine is at other work.
"""

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.idle import wait_until_idle
from benchmarks.throughput import run_as_the_command
from lilliput import api
from lilliput.reports.words import title
from lilliput.system.records import read_json
from lilliput.training.record import read_log, read_run

EPOCHS = 4  # of which the first warms up
ENERGY = ("kwh", "grams_co2")  # counted from a run's beginning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, metavar="STUDY")
    parser.add_argument("--data", required=True, help="the study's data")
    parser.add_argument("--images", type=int, default=960, help="to train on in an epoch")
    parser.add_argument("--backbones", nargs="+", help="instead of the study's")
    options = parser.parse_args()
    run_as_the_command("benchmarks.costs")
    study, path = read_json(options.study / "study.json"), options.study / "costs.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    known = {(row["technique"], row["backbone"]) for row in rows}
    for pair in itertools.product(study["techniques"], options.backbones or study["backbones"]):
        if pair not in known:
            wait_until_idle()
            rows.append(cost_of(study, *pair, options.data, options.images))
            pd.DataFrame(rows).to_csv(path, index=False)
            print(rows[-1], flush=True)
    print(table(rows))


def cost_of(study: dict[str, Any], technique: str, backbone: str, data: str, images: int) -> dict[str, Any]:
    """A row: medians of the epochs after the first, scaled to the whole pretraining."""
    settings = {name: study[name] for name in ("image_size", "batch", "recipe", "country")}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = api.pretrain(technique, backbone, data, out, limit=images, epochs=EPOCHS, every=EPOCHS, **settings)
        log, plan = read_log(run), read_run(run)["plan"]
    seconds = statistics.median(epoch["seconds"] for epoch in log[1:])
    seen = log[-1]["seconds"] * log[-1]["images_per_s"]
    times = study["pool_images"] * study["epochs"] / seen
    spent = {name: [now[name] - before[name] for before, now in itertools.pairwise(log)] for name in ENERGY}
    return {
        "technique": technique,
        "backbone": backbone,
        "precision": plan["precision"],
        "threads": plan["threads"],
        "images_per_s": seen / seconds,
        "seconds": seconds * times,
        **{name: statistics.median(values) * times for name, values in spent.items()},
        "peak_memory_mib": log[-1]["peak_memory_mib"],
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
