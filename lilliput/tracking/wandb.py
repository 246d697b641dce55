"""Weights & Biases: files in the run's folder, sent by `wandb sync`; with WANDB_MODE=online as they come.

WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP and the like are the library's own to heed.
"""

import os
import secrets
from collections.abc import Mapping
from typing import final

from lilliput.tracking._tracker import PROJECT, About, Tracker


@final
class WandB(Tracker):
    """Figures over epochs: those of judged encoders come when later steps are logged, which wandb's steps forbid."""

    def __init__(self, about: About, run: str | None):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run = run or secrets.token_hex(4)
        self.process = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.run,
            name=about.name,
            resume="allow",
            dir=str(about.folder),
            config=about.settings,
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        self.process.define_metric("epoch")
        self.process.define_metric("*", step_metric="epoch")

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.process.log({"epoch": epoch, **figures})

    def close(self) -> None:
        self.process.finish()


open_run = WandB
