"""Names and counts as people may see them. A file's name may hold anything, and a terminal obeys some of it."""

import functools
import unicodedata

# control characters, halves of pairs, ends of lines; and what turns the direction of the text after it
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")
_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@functools.lru_cache(maxsize=1 << 14)
def visible(text: str) -> str:
    """The text with all that would be obeyed rather than shown written out: "\\x1b[31m"."""
    return "".join(_written_out(letter) if _is_hidden(letter) else letter for letter in text)


def counted(number: int, things: str) -> str:
    """How many there are of "cell(s)", or of "link(s) to nowhere": 1 cell, 2 cells."""
    return f"{number} {things.replace('(s)', '' if number == 1 else 's')}"


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN or unicodedata.bidirectional(letter) in _TURNING


def _written_out(letter: str) -> str:
    number = ord(letter)
    return rf"\x{number:02x}" if number < 256 else rf"\u{number:04x}"
