"""Label-free scores of a finished study's saved encoders beside its accuracies, in a file small enough to publish.

python -m benchmarks.keep_scores STUDY --data DATA --out FILE.csv [--image-size 32] [--limit 320]

A row for every checkpoint of every cell but the first: the accuracies that the study has in its rows (linear and kNN,
of the held-out tenth and of test), what the log says at that epoch, and the geometry of the features of the training
images, labels unseen. What is in the file is not done again. `python -m benchmarks.advice` reads it.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ACCURACIES = {
    "held_out_accuracy": ("linear", "held_out_accuracy"),
    "accuracy": ("linear", "accuracy"),
    "knn_held_out_accuracy": ("knn", "held_out_accuracy_cosine"),
}
LOGGED = ("loss", "loss_of_guessing", "total_seconds")
SCORES = ("effective_rank", "alignment", "uniformity", "alpha_req", "nesum", "sigreg")
COLUMNS = ("technique", "backbone", "seed", "epoch", "epochs", *ACCURACIES, *LOGGED, *SCORES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", help="its folder, with the encoders")
    parser.add_argument("--data", required=True, help="what judged it")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    out = Path(options.out)
    known: set[tuple[str, ...]] = set()
    if out.exists():
        with out.open(encoding="utf-8", newline="") as file:
            known = {(row["technique"], row["backbone"], row["seed"], row["epoch"]) for row in csv.DictReader(file)}
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not known:
            writer.writeheader()
        for row in scored(Path(options.study), options, known):
            writer.writerow(
                {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
            )
            file.flush()


def scored(study: Path, options: argparse.Namespace, known: set[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    from lilliput.datasets import Source
    from lilliput.probes import Exam
    from lilliput.probes.geometry import geometry
    from lilliput.studies import results
    from lilliput.system.plan import nearest
    from lilliput.training.encoders import load_encoder, saved_encoders
    from lilliput.training.record import read_log, read_run

    source = Source(options.data, image_size=options.image_size, limit=options.limit)
    images, _ = source.open(judging=True).judging
    rows = results.read(study)
    for run in sorted((study / "cells").iterdir()):
        if not (run / "run.json").exists():
            continue
        record, log = read_run(run), {row["epoch"]: row for row in read_log(run)}
        own = rows[(rows.technique == record["technique"]) & (rows.backbone == record["backbone"])]
        own = own[own.seed == record["seed"]]
        plan = nearest(record["plan"])
        for epoch, path in saved_encoders(run).items():
            cell = record["technique"], record["backbone"], record["seed"], epoch
            if epoch == 0 or tuple(map(str, cell)) in known:
                continue
            judged = own[own.epoch == epoch].set_index(["probe", "metric"]).value
            found = dict(
                geometry(Exam(plan.place(load_encoder(path)), images, plan=plan, label=" ".join(map(str, cell))))
            )
            yield {
                **dict(zip(COLUMNS[:5], (*cell, record["recipe_settings"]["epochs"]), strict=True)),
                **{name: float(judged[of]) for name, of in ACCURACIES.items()},
                **{name: log[epoch].get(name) for name in LOGGED},
                **{name: found[name] for name in SCORES},
            }


if __name__ == "__main__":
    main()
