"""Words that tables and page share."""

import pandas as pd

from lilliput.training.guards import remedy


def told(rows: pd.DataFrame) -> list[str]:
    """Of a study's rows: each flag of each cell, at which epochs, and what to try."""
    flagged = rows[rows.flagged != ""]
    lines = []
    for (technique, backbone, seed), own in flagged.groupby(["technique", "backbone", "seed"], sort=False):
        for name in sorted({name for text in own.flagged for name in text.split()}):
            epochs = sorted({int(at) for at in own.epoch[own.flagged.str.split().map(lambda all, n=name: n in all)]})
            where = f"{technique} on {backbone}, seed {seed}, epoch {', '.join(map(str, epochs))}"
            lines.append(f"{where}: {name.replace('_', ' ')}; try {remedy(name)}")
    return lines
