"""The tables of README.md and results/README.md, written from the rows that are published.

python -m benchmarks.published

Each stands between `<!-- from FOLDER: WHAT -->` and `<!-- end -->`, and is written anew; all else stays as it is.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks import equal
from lilliput.reports.words import title

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "results/README.md")
PART = re.compile(r"(<!-- from (\S+): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CHOSEN = "## Linear probe, checkpoint chosen on held-out training images\n\n"


def main() -> None:
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{name}: {len(PART.findall(path.read_text(encoding='utf-8')))} tables")


def renewed(text: str) -> str:
    """A document with its tables as the rows have them."""
    return PART.sub(lambda part: f"{part[1]}\n{TABLES[part[3]](ROOT / part[2])}\n\n{part[4]}", text)


def accuracy(study: Path) -> str:
    """Of the checkpoint chosen on held-out images: the table that the study's report has."""
    _, _, rest = (study / "table.md").read_text(encoding="utf-8").partition(CHOSEN)
    return rest.partition("\n\n")[0]


def costs(study: Path) -> str:
    """Minutes and watt-hours of each cell alone, the quickest network last."""
    rows = pd.read_csv(study / "costs.csv")
    rows["text"] = [f"{row.seconds / 60:.0f} ({1000 * row.kwh:.0f})" for row in rows.itertuples()]
    texts = rows.pivot(index="technique", columns="backbone", values="text")
    order = list(rows.groupby("backbone").seconds.mean().sort_values(ascending=False).index)
    lines = [f"| minutes (Wh) | {' | '.join(order)} |", f"| --- |{' ---: |' * len(order)}"]
    for technique in dict.fromkeys(rows.technique):
        lines.append(f"| {title(technique)} | {' | '.join(texts.loc[technique, order])} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Path], str]] = {"accuracy": accuracy, "costs": costs, **equal.TABLES}


if __name__ == "__main__":
    main()
