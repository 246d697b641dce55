"""The first screen: the answer, and all cells at one glance, each of which can be opened."""

import pandas as pd

from lilliput.catalog import BASELINES
from lilliput.reports.flags import flag_lines
from lilliput.reports.page import html
from lilliput.reports.page.section import Section, Study
from lilliput.reports.verdict import Standing, verdict
from lilliput.reports.words import ABSENT, count, share, title
from lilliput.system.progress import duration
from lilliput.system.visible import counted

DARK = 0.6  # from which share of the way to the highest accuracy figures are white
LEGEND = (
    "Test accuracy of a linear probe at the checkpoint that held-out training images chose; the more, the stronger its "
    "colour. Framed: the best technique on a network. Slanted: not shown to be above the untrained network. "
    "<span class=screen>Point at a cell for its interval, click it to see what it learned; press “compare” and click "
    "another.</span>"
)


def overview_section(study: Study) -> Section:
    """The question, the answer, what qualifies it, flags, and the map of cells; scripts put the open cell beside it."""
    first, *others = verdict(study.rows, test_images=study.test_images, seeds=study.seeds)
    flags = [f"Flagged: {line}" for line in flag_lines(study.rows)]
    grid = f"{counted(len(study.techniques), 'technique(s)')} on {counted(len(study.backbones), 'backbone(s)')}"
    question = (
        f"Which way of learning without labels suits which small network, for {study.record['judge']}? "
        f"{grid} learned from {study.record['pool_images']:,} images without labels at "
        f"{study.record['image_size']} px for {study.record['epochs']} epochs; a linear probe judged what they had "
        f"learned on {study.test_images:,} test images."
    )
    body = (
        f"<p class=lead>{html.text(first)}</p><p>{html.text(question)}</p>"
        f"<div class=first><div>{heat_map(study)}<p class=source>{LEGEND}</p></div>"
        f"<aside id=open class=screen aria-live=polite></aside></div>"
        f"<h3>What qualifies it</h3>{_list(others)}"
    )
    if flags:
        body += f"<details><summary>{counted(len(flags), 'flag(s)')} of training</summary>{_list(flags)}</details>"
    return Section("verdict", "Verdict", body)


def heat_map(study: Study) -> str:
    """A row for each technique and baseline, a column for each backbone, as a table."""
    cells = {(cell.technique, cell.backbone): cell for cell in study.standings}
    sides = study.learned
    trained = [cell for cell in cells.values() if cell.technique not in BASELINES]
    best = {name: max((c.accuracy for c in trained if c.backbone == name), default=0.0) for name in study.backbones}
    low, high = min(cell.accuracy for cell in trained), max(cell.accuracy for cell in cells.values())

    def drawn(cell: Standing, *, across: int = 1) -> str:
        strength = max(0.0, (cell.accuracy - low) / (high - low)) if high > low else 0.0
        is_trained = cell.technique not in BASELINES
        marks = ["heat"]
        marks += ["strong"] if strength > DARK else []
        marks += ["best"] if is_trained and cell.accuracy == best[cell.backbone] else []
        marks += ["unlearned"] if sides.get((cell.technique, cell.backbone), "above") != "above" else []
        tip = html.text(tip_of(cell, sides.get((cell.technique, cell.backbone))))
        shown = share(cell.accuracy)
        if is_trained:
            shown = f'<button type=button data-cell="{html.text(f"{cell.technique} {cell.backbone}")}">{shown}</button>'
        style = f'style="--of:{100 * strength:.0f}%"'
        return f'<td class="{" ".join(marks)}" {style} data-tip="{tip}" colspan={across}>{shown}</td>'

    lines = []
    for technique in [*study.techniques, *BASELINES]:
        own = {backbone: cell for (name, backbone), cell in cells.items() if name == technique}
        if not own:
            continue
        if set(own) == {""}:  # pixels, which no network sees
            tds = drawn(own[""], across=len(study.backbones))
        else:
            tds = "".join(drawn(own[name]) if name in own else f"<td>{ABSENT}</td>" for name in study.backbones)
        kind = " class=baseline" if technique in BASELINES else ""
        lines.append(f"<tr{kind}><th scope=row>{html.text(title(technique))}</th>{tds}</tr>")
    head = "".join(f"<th scope=col>{html.text(name).replace('_', '_<wbr>')}</th>" for name in study.backbones)
    return (
        f"<div class=wide><table id=heat><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div>"
    )


def tip_of(cell: Standing, side: str | None) -> str:
    """What is said of a cell that the pointer is at."""
    parts = [f"{cell.name}: {cell.share} (95 %)"]
    if side:
        parts.append({"above": "above", "level": "level with", "below": "below"}[side] + " its untrained network")
    if cell.backbone and pd.notna(cell.multiply_adds):
        parts.append(f"{count(cell.multiply_adds)} multiply-adds")
    if cell.seconds and cell.seconds > 0:
        parts.append(f"{duration(cell.seconds)} of pretraining")
    return "; ".join(parts)


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.text(line)}</li>' for line in lines)}</ul>"
