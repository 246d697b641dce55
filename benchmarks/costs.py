"""What each cell of a study costs alone: seconds, energy and grams of CO2, nothing else running.

python -m benchmarks.costs STUDY --data DIR [--images 960] [--backbones NAME ...]

A study's own figures are those of the machine as it was, with whatever ran beside. Here each of its techniques on each
of its networks is trained by the study's recipe on so many of its images for two epochs, one after another, by the plan
that is fastest on this machine; the second is scaled to all images and epochs of the study. STUDY/costs.csv keeps the
rows; a pair that it has is not measured again. Prints them as a table. Waits while the machine is at other work.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from lilliput import api
from lilliput.reports.words import title
from lilliput.system.records import read_json
from lilliput.training.record import read_log, read_run

IDLE, WATCHED = 5.0, 3.0  # per cent of the cores at work below which nothing runs beside, and for how many seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, metavar="STUDY")
    parser.add_argument("--data", required=True, help="the study's data")
    parser.add_argument("--images", type=int, default=960, help="to train on in an epoch")
    parser.add_argument("--backbones", nargs="+", help="instead of the study's")
    options = parser.parse_args()
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


def wait_until_idle() -> None:
    """Return once the machine's cores had nothing to do for a while."""
    while (busy := psutil.cpu_percent(WATCHED)) > IDLE:
        print(f"{busy:.0f} % of the cores are at work: waiting for an idle machine", flush=True)
        time.sleep(10 * WATCHED)


def cost_of(study: dict[str, Any], technique: str, backbone: str, data: str, images: int) -> dict[str, Any]:
    """A row: of the second epoch, and scaled to the whole pretraining."""
    settings = {name: study[name] for name in ("image_size", "batch", "recipe", "country")}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = api.pretrain(technique, backbone, data, out, limit=images, epochs=2, every=2, **settings)
        (first, second), plan = read_log(run), read_run(run)["plan"]
    seen = second["seconds"] * second["images_per_s"]
    times = study["pool_images"] * study["epochs"] / seen
    energy = {name: (second[name] - first[name]) * times for name in ("kwh", "grams_co2")}
    return {
        "technique": technique,
        "backbone": backbone,
        "precision": plan["precision"],
        "threads": plan["threads"],
        "images_per_s": second["images_per_s"],
        "seconds": second["seconds"] * times,
        **energy,
        "peak_memory_mib": second["peak_memory_mib"],
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
