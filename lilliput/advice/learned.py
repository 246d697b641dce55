"""What finished studies taught: written by `python -m benchmarks.advice --write`, read by the search and its answer."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("learned.json")


@cache
def learned() -> dict[str, Any]:
    """ends, doubling: quantiles of curves; scores: what each is worth without labels; effects; crossings."""
    return json.loads(FILE.read_text(encoding="utf-8"))
