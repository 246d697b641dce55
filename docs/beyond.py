"""Of the site: files of the repository that the documents link to lie outside of docs/, and come along as they are."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\.\./([^)#]+)")


def on_files(files, config):
    """Add what any page links to by ../"""
    pages = [Path(file.abs_src_path).read_text(encoding="utf-8") for file in files.documentation_pages()]
    for name in sorted({name for page in pages for name in LINK.findall(page) if (ROOT / name).is_file()}):
        files.append(File.generated(config, f"files/{_shown(name)}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, **_):
    """Let these links lead there; to what is not there they stay, and the build says so."""
    return LINK.sub(lambda link: f"](files/{_shown(link[1])}" if (ROOT / link[1]).is_file() else link[0], markdown)


def _shown(name: str) -> str:
    """A document as plain text: its own links are for those who have the repository."""
    return f"{name}.txt" if name.endswith(".md") else name
