"""TensorBoard: event files in the run's folder; `tensorboard --logdir runs` shows those of all runs below it."""

import json
from collections.abc import Mapping
from typing import final

from lilliput.tracking._tracker import About, Tracker


@final
class TensorBoard(Tracker):
    """Another file of events beside the first one where a run goes on: TensorBoard reads them as one."""

    def __init__(self, about: About, run: str | None):
        from torch.utils.tensorboard import SummaryWriter

        self.run = about.name
        self.writer = SummaryWriter(str(about.folder / "tensorboard"))
        if run is None:
            self.writer.add_text("run.json", f"```json\n{json.dumps(about.settings, indent=2)}\n```")

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


open_run = TensorBoard
