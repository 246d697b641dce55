"""Flags of guards and probes, as a report tells them."""

import pandas as pd

from lilliput.training.guards import remedy


def flag_lines(rows: pd.DataFrame) -> list[str]:
    """Of a study's rows: each flag of each cell, at which epochs, and what to try."""
    flagged = rows[rows.flagged != ""]
    lines = []
    for (technique, backbone, seed), cell in flagged.groupby(["technique", "backbone", "seed"], sort=False):
        for flag in sorted({flag for text in cell.flagged for flag in text.split()}):
            raised = [flag in text.split() for text in cell.flagged]
            epochs = ", ".join(str(int(epoch)) for epoch in sorted(set(cell.epoch[raised])))
            where = f"{technique} on {backbone}, seed {seed}, epoch {epochs}"
            lines.append(f"{where}: {flag.replace('_', ' ')}; try {remedy(flag)}")
    return lines
