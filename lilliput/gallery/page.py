"""Findings as a table, and as a page with thumbnails that holds everything itself."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from lilliput.gallery.clean import Finding, Findings
from lilliput.gallery.index import Index
from lilliput.gallery.writing import write_table
from lilliput.images.decode import decode, quietly
from lilliput.reports.page import html
from lilliput.reports.page.page import ASSETS
from lilliput.system.files import write_whole
from lilliput.system.visible import counted

SHOWN = 300  # images of a kind on the page; all are in the table
PIXELS = 96
LAYOUT = (
    ".tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: .5rem 0; } .tile { width: 98px; margin: 0; } "
    ".tile img { width: 96px; height: 96px; display: block; border-radius: 4px; } "
    ".tile figcaption { font-size: .72rem; line-height: 1.3; overflow-wrap: anywhere; color: var(--soft); } "
    ".tile b { color: var(--ink); } .groups { display: flex; flex-wrap: wrap; gap: .6rem; } "
    ".group { border: 1px solid var(--line); border-radius: 6px; padding: 0 .4rem; } "
    "@media (max-width: 700px) { figure.tile img { width: 96px; } }"
)
TITLES = {
    "copies": ("Copies", "Each box is one image several times, the largest file first; the surest boxes come first."),
    "off_topic": (
        "Off the topic",
        "Images far from all others, the farthest first; the number is how many times the usual distance. An unusual "
        "picture of the right thing is among them too.",
    ),
    "label": (
        "Likely wrong labels",
        "A classifier that has not seen the image thinks its label unlikely: first what it is called, then what is "
        "likelier, and how likely its label is.",
    ),
    "hard": ("Hard images", "The same, less clearly: right labels of unusual images, for the most part."),
}


def write_findings(findings: Findings, index: Index, run: str, out: Path) -> list[Path]:
    """clean.html and clean.csv in the folder `out`, which is made; returns both."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "clean.html", out / "clean.csv"]
    kinds = {kind: found for kind, found in findings._asdict().items() if found is not None}
    header = ("problem", "file", "score", "of", "label", "group")
    rows = [(kind, f.file, f.score, f.of, f.label, f.group or "") for kind, found in kinds.items() for f in found]
    write_table(paths[1], header, rows)
    write_whole(paths[0], _page(kinds, index, run).encode("utf-8", "backslashreplace"))
    return paths


def _page(kinds: dict[str, list[Finding]], index: Index, run: str) -> str:
    title = f"{index.root.name}: what to look at"
    links = "".join(f'<a href="#{kind}">{TITLES[kind][0]} ({len(found)})</a>' for kind, found in kinds.items())
    facts = {
        "folder": str(index.root),
        "images": f"{len(index)}" + (f", and {len(index.unread)} that cannot be read" if index.unread else ""),
        "encoder": run,
    }
    lead = "<p>Nothing was changed or deleted. All of it is in clean.csv beside this page.</p>"
    with quietly():
        bodies = "".join(_section(kind, found, index.root) for kind, found in kinds.items())
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<link rel=icon href=data:,><title>{html.text(title)}</title>"
        f"<style>{(ASSETS / 'page.css').read_text(encoding='utf-8')}{LAYOUT}</style></head><body>"
        f"<header><h1>{html.text(title)}</h1><nav aria-label=Sections>{links}</nav></header>"
        f"<main>{lead}{html.facts(facts)}{bodies}{_unread(index)}</main></body></html>"
    )


def _section(kind: str, found: Sequence[Finding], root: Path) -> str:
    title, text = TITLES[kind]
    shown = found[:SHOWN]
    if not found:
        body = "<p>None.</p>"
    elif kind == "copies":
        count = len({finding.group for finding in found})
        text = f"{counted(len(found), 'image(s)')} in {counted(count, 'group(s)')}. {text}"
        rows = groupby(shown, key=lambda finding: finding.group)
        boxes = "".join(f"<div class=group>{_tiles(group, root)}</div>" for _, group in rows)
        body = f"<div class=groups>{boxes}</div>"
    else:
        body = _tiles(shown, root)
    more = f"<p>{len(found) - SHOWN} more are in clean.csv.</p>" if len(found) > SHOWN else ""
    return f"<section id={kind}><h2>{title}</h2><p>{html.text(text)}</p>{body}{more}</section>"


def _unread(index: Index) -> str:
    if not index.unread:
        return ""
    rows = [(file.name, reason) for file, reason in index.unread]
    return f"<section id=unread><h2>Unreadable</h2>{html.table(['file', 'reason'], rows)}</section>"


def _tiles(found: Iterable[Finding], root: Path) -> str:
    return f"<div class=tiles>{''.join(_tile(finding, root) for finding in found)}</div>"


def _tile(finding: Finding, root: Path) -> str:
    label = f"<b>{html.text(finding.label)}</b>, likelier {html.text(finding.of)}<br>" if finding.label else ""
    caption = f"{label}{finding.score:g}<br>{html.text(finding.file)}"
    return f"<figure class=tile>{_thumbnail(root / finding.file)}<figcaption>{caption}</figcaption></figure>"


def _thumbnail(path: Path) -> str:
    try:
        pixels = decode(path, PIXELS)
    except Exception:  # gone or changed since it was looked at
        return "<p>gone</p>"
    return f'<img alt="{html.text(path.name)}" src="data:image/jpeg;base64,{html.jpeg(pixels, PIXELS)}">'
