"""Does SIGReg's training loss rank encoders? Its authors say so (LeJEPA, section 6.2): Spearman's rho .94, and .99
where the loss is divided by weight^.4.

python -m benchmarks.loss_ranks --data DIR [--steps 480] [--size 48] [--seeds 0]

Trains ShuffleNetV2 with every weight and rate below, and sets the loss of the last eighth of the steps beside the
accuracy of a linear probe, by five folds of the labelled training images: no test image. What is in <out>/rows.jsonl is
not done again; every call prints the rank correlations of what is there of this data, steps and size, with intervals.
A training that fails is a row too, and ranks nothing.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.folds import judged
from benchmarks.learning import PARTS, learner_of, parts_of
from benchmarks.levers import Trial
from lilliput.errors import LilliputError
from lilliput.studies.statistics import spearman, spearman_interval

WEIGHTS = (0.005, 0.02, 0.08, 0.3)
RATES = (0.3, 1.0, 3.0)  # times the recipe's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="a folder with train/<class>/ and unlabeled/")
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", default="results/loss-ranks")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    alike = {"data": Path(options.data).name, "steps": options.steps, "size": options.size}
    for seed, weight, rate in itertools.product(options.seeds, WEIGHTS, RATES):
        setting = {**alike, "seed": seed, "weight": weight, "rate": rate}
        if not any(setting.items() <= row.items() for row in rows_of(out)):
            row = setting | measured(options.data, setting)
            with (out / "rows.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(told([row for row in rows_of(out) if alike.items() <= row.items()]))


def measured(folder: str, setting: dict[str, Any]) -> dict[str, Any]:
    """Loss in the end, and accuracies of linear probe and kNN, of one training; or that it failed."""
    from lilliput.datasets import open_data
    from lilliput.training.cell import recipe_of

    data = open_data(folder, image_size=setting["size"])
    own = {"weight": setting["weight"], "lr": setting["rate"] * recipe_of("sigreg", "small").lr}
    learner = learner_of(Trial(folder, "sigreg", "shufflenet_v2", setting["seed"], setting["size"], 0, own))
    parts = parts_of(learner, data.pool, max(1, setting["steps"] // PARTS), seed=setting["seed"], judged=[PARTS])
    try:
        [(_, loss)] = parts
    except LilliputError as error:  # a loss that is no number
        return {"failed": str(error)}
    return {"loss": loss, **judged(learner.technique.encoder, data.train, learner.plan)}


def rows_of(out: Path) -> list[dict[str, Any]]:
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def told(rows: list[dict[str, Any]]) -> str:
    """A line for each form of the loss: its rank correlation with the accuracies, 1 if the lowest loss is the best."""
    ended = [row for row in rows if "loss" in row]
    table = pd.DataFrame(ended).groupby(["weight", "rate"], as_index=False)[["loss", "linear", "knn"]].mean()
    forms = {"as it is": table.loss, "/ weight^.4": table.loss / table.weight**0.4}
    lines = ["| loss | linear | kNN |", "| --- | ---: | ---: |"]
    for name, loss in forms.items():
        rhos = [spearman(-loss, table[judge]) for judge in ("linear", "knn")]
        texts = ["{:+.2f} ({:+.2f} to {:+.2f})".format(rho, *spearman_interval(rho, len(table))) for rho in rhos]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    for weight, own in table.groupby("weight"):
        rhos = [spearman(-own.loss, own[judge]) for judge in ("linear", "knn")]
        lines.append(f"| at weight {weight:g}, {len(own)} rates | {' | '.join(f'{rho:+.2f}' for rho in rhos)} |")
    return "\n".join([*lines, "", f"means over seeds; {len(rows) - len(ended)} of {len(rows)} trainings failed"])


if __name__ == "__main__":
    main()
