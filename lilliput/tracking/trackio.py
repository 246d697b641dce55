"""Trackio: a local database, in TRACKIO_DIR or the library's own folder; `trackio show --project lilliput` shows it."""

import io
import os
import secrets
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import final

from lilliput.tracking._tracker import PROJECT, About, Tracker


@final
class Trackio(Tracker):
    """Trackio knows a run by its name, so ours ends by chance: two folders may hold runs of the same cell."""

    def __init__(self, about: About, run: str | None):
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        import trackio

        self.library = trackio
        self.run = run or f"{about.name}-{secrets.token_hex(4)}"
        with redirect_stdout(io.StringIO()):  # stdout is for results
            self.process = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=self.run,
                resume="allow",
                config=about.settings,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.process.log(dict(figures), step=epoch)

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self.library.finish()  # of the process, or it says so once more at the program's end


open_run = Trackio
