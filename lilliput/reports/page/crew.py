"""The page's work, shared out over processes of this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lilliput.studies.engines import Finished, Jobs, Processes
from lilliput.system import signals
from lilliput.system.plan import own_threads
from lilliput.system.progress import Board


def share_out(jobs: Jobs, make_shop: Callable[[], Any], *, label: str, workers: int, folder: Path) -> dict[str, str]:
    """Do the jobs, so many at once, with their progress under that label; the errors of those that failed, by name.

    Raises Stopped where a signal asked for it.
    """
    board, ended = Board(), 0
    errors: dict[str, str] = {}
    with own_threads():
        for event in Processes(workers).run(jobs, make_shop, board, folder):
            if isinstance(event, Finished):
                ended += 1
                errors |= {event.name: event.error} if event.error else {}
            board.hear(0, (label, ended, len(jobs)))  # no process has that number
    signals.check("stopped while the page was made")
    return errors
