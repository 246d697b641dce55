"""Text of others inside Markdown, and its tables."""

import re
import unicodedata
from collections.abc import Sequence

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of letters that a reader does not see as they are


def escape(text: str) -> str:
    """A user's words inside a line of Markdown: no markup, no new line, nothing invisible."""
    seen = "".join(f"<{ord(letter):x}>" if unicodedata.category(letter) in HIDDEN else letter for letter in text)
    inside = re.sub(r"([\\`*\[\]<>|~#&$!])", r"\\\1", seen)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", inside)  # an underscore within a word is no markup


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Two columns of names, then numbers to the right; what it is given is Markdown already."""
    rule = ["---", "---", *["---:"] * (len(header) - 2)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def items(lines: Sequence[str]) -> str:
    """A list of these lines, as text."""
    return "\n".join(f"- {escape(line)}" for line in lines)
