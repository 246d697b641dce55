"""What torchrun tells a process that it started; of a process by itself: the first of one.

Its documentation, "Environment Variables": https://docs.pytorch.org/docs/stable/elastic/run.html. No torch is imported.
"""

import os


def size() -> int:
    """How many processes were started for one run, on all machines."""
    return _told("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this one, from 0."""
    return _told("RANK", 0)


def rank_here() -> int:
    """Its number among those on this machine, from 0: that of its GPU too."""
    return _told("LOCAL_RANK", 0)


def _told(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone)) if "TORCHELASTIC_RUN_ID" in os.environ else alone
